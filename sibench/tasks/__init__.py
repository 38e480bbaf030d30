def make(name, engine="auto"):
    from sibench.tasks import locomotion as L
    return {c.name: c for c in (L.HalfCheetah, L.Hopper, L.Walker2d, L.Ant)}[name](engine)

"""Everything that a file of algorithms/ imports. Method files need not move when the packages behind this one do."""

from sibench.learning.main import main
from sibench.learning.method import Algorithm, Method, RunConfig, Spec, setting
from sibench.learning.optimiser import Model, adam, descend, effective_share, init_model
from sibench.learning.sampling import Batch, Data, sample, sample_openings, sample_pairs
from sibench.policies import Policy
from sibench.policies.networks import BinsPolicy, Features, GaussianPolicy, Value, with_stats

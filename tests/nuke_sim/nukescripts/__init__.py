"""The simulated module `nukescripts`: only what Foundry documents and RelightGAN uses."""

from nukescripts import panels as panels
from nukescripts.utils import executeDeferred as executeDeferred

"""The simulated module `nukescripts`: only what Foundry documents and RelightGAN uses."""

from nukescripts import drop as drop
from nukescripts import panels as panels
from nukescripts.drop import addDropDataCallback as addDropDataCallback
from nukescripts.drop import dropData as dropData
from nukescripts.panels import registerWidgetAsPanel as registerWidgetAsPanel
from nukescripts.panels import restorePanel as restorePanel
from nukescripts.utils import executeDeferred as executeDeferred

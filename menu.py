"""Read by Nuke when it has a window: the RelightGAN menu."""

import nuke

from relightgan.nuke_plugin import installation

nuke.menu("Nuke").addMenu("RelightGAN").addCommand("Check Installation", installation.show_check)

"""tomopolish refines cryo-electron-tomography tilt series against a known structure.

From Python: `tomopolish.load` opens a project, `tomopolish.align` refines it (see `tomopolish.api`).
"""

from tomopolish.api import AlignedProject, align, load
from tomopolish.version import __version__

__all__ = ["AlignedProject", "__version__", "align", "load"]

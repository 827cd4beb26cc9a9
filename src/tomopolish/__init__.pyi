from tomopolish.api import AlignedProject as AlignedProject
from tomopolish.api import align as align
from tomopolish.api import load as load

__version__: str

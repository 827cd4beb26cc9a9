"""tomopolish refines cryo-electron-tomography tilt series against a known structure."""

__version__ = "0.1.0"

"""Maps from tilt images: weighted back-projection, symmetry, FSC."""

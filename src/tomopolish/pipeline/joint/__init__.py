"""Joint refinement of one tomogram: orientations, defocus, scale and B factor with the geometry."""

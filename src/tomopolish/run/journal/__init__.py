"""What a command says and how it was run, kept in its output folder: ``run.log`` and ``run.yaml``."""

-- Lmod: tomopolish for all users of a cluster. docs/installing.md says how the folder below is made.
local root = "/opt/tomopolish/0.2.0"

whatis("Name: tomopolish")
whatis("Version: 0.2.0")
whatis("Description: Refine cryo-electron-tomography tilt series against a known structure")
help([[tomopolish refines tilt series of a RELION project: see tomopolish --help]])

conflict("tomopolish")
prepend_path("PATH", pathJoin(root, "commands"))

#%Module1.0
# Environment Modules: tomopolish for all users of a cluster. docs/installing.md says how the folder below is made.
set root /opt/tomopolish/0.2.0

module-whatis "Name: tomopolish"
module-whatis "Version: 0.2.0"
module-whatis "Description: Refine cryo-electron-tomography tilt series against a known structure"
proc ModulesHelp {} {
    puts stderr "tomopolish refines tilt series of a RELION project: see tomopolish --help"
}

conflict tomopolish
prepend-path PATH $root/commands

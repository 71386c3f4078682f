"""The throw-away virtual machine of `scripts/vm-test`: standard library only, as it runs before anything is set up."""

"""Real virtual machines on the demo's nodes: QEMU, as virt-launcher would run it."""

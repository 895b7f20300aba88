"""Images as virtual machines: a kernel, an initramfs and a root file system that QEMU boots."""

from afenv_builders.vm.builder import VmBuilder

__all__ = ["VmBuilder"]

"""What every room uses: checked arguments, whole files, run folders, locks, the machine."""

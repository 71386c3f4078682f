"""The Debian package and the wheel: built from the tree, installed, used, upgraded, removed, purged."""

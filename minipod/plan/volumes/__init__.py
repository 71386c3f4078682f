"""A pod's volumes (layer 2): what each source is on the host, the files in it, which PersistentVolume a claim gets."""

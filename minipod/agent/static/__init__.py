"""Static pods (layer 5): the pods of the files of one directory, as a kubelet's staticPodPath has them."""

"""scripts/chroot-test, and the tests that it begins with: whether what is started in a pod is in the pod's root."""

"""The catalogue of public attacks on container runtimes: which row is tested where, and which has no test.

Each test of a row carries `@pytest.mark.attack(row=N)` and is named after what it shows. It may also be a test of
`tests/node` or `tests/unit` that carries the mark; `tests/unit/test_attack_rows.py` finds them all.
"""

from __future__ import annotations

#: file of tests/attacks → the rows of its section
SECTIONS = {
    "test_a_exec_descriptors_terminals.py": range(1, 8),
    "test_a_order.py": range(1, 2),
    "test_a_joining.py": range(2, 3),
    "test_b_rootfs_and_mounts.py": range(8, 17),
    "test_c_cgroups_devices_sysctls.py": range(17, 21),
    "test_c_proc_sys_cgroups_devices.py": range(21, 22),
    "test_d_volumes.py": range(22, 29),
    "test_e_copy.py": range(29, 31),
    "test_f_images.py": range(31, 38),
    "test_g_identity.py": range(38, 44),
    "test_h_exhaustion_logs_probes.py": range(44, 48),
    "test_i_network.py": range(48, 51),
    "test_j_state_and_api.py": range(51, 55),
    "test_k_seccomp.py": range(55, 58),
    "test_l_names.py": range(58, 59),
}

#: row → why nothing can be attacked here
NOT_APPLICABLE = {
    37: "checkpoint archives: there are none",
    53: "an HTTP API: there is none; what the control socket is asked are rows 52 and 54",
}

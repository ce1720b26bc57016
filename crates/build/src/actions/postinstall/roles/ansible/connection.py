"""Runs module code in the image's tree, with the image's own programs: chroot(2) below the directory that imgbuild mounts it on."""

DOCUMENTATION = """
    name: imgbuild
    short_description: the tree of the image that imgbuild builds
    description:
        - Commands and module code run in the image's tree, as its root.
    author: imgbuild
    options:
        remote_addr:
            description: where the image's tree is
            default: /target
            vars:
                - name: imgbuild_tree
        remote_user:
            description: always root
            default: root
"""

import json
import os
import shutil
import subprocess

from ansible.errors import AnsibleError
from ansible.plugins.connection import ConnectionBase

from imgbuild_common import image_path

# What differs from build to build, from host to host, or means nothing in an image, by the fact's name.
DROPPED = (
    "ansible_date_time",
    "ansible_uptime_seconds",
    "ansible_loadavg",
    "ansible_memory_mb",
    "ansible_memfree_mb",
    "ansible_swapfree_mb",
    "ansible_mounts",
    "ansible_devices",
    "ansible_device_links",
    "ansible_dns",
    "ansible_default_ipv4",
    "ansible_default_ipv6",
    "ansible_all_ipv4_addresses",
    "ansible_all_ipv6_addresses",
    "ansible_interfaces",
    "ansible_locally_reachable_ips",
    "ansible_lo",
    "ansible_proc_cmdline",
    "ansible_cmdline",
    "ansible_product_uuid",
    "ansible_product_serial",
    "ansible_board_serial",
    "ansible_chassis_serial",
    "ansible_machine_id",
    "ansible_env",
)


def tree():
    return os.environ.get("IMGBUILD_TREE", "/target")


def settled(facts):
    """Facts as each build sees them, wherever it runs."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    name = os.environ.get("IMGBUILD_HOST", "image")
    found = {key: value for key, value in facts.items() if key not in DROPPED}
    if "ansible_date_time" in facts:
        found["ansible_date_time"] = date_time(epoch)
    for key in ("ansible_interfaces", "ansible_all_ipv4_addresses", "ansible_all_ipv6_addresses", "ansible_mounts"):
        if key in facts:
            found[key] = []
    for key in ("ansible_default_ipv4", "ansible_default_ipv6", "ansible_dns", "ansible_devices", "ansible_cmdline",
                "ansible_proc_cmdline", "ansible_env"):
        if key in facts:
            found[key] = {}
    for key in ("ansible_hostname", "ansible_nodename", "ansible_fqdn"):
        if key in facts:
            found[key] = name
    if "ansible_domain" in facts:
        found["ansible_domain"] = ""
    if "ansible_is_chroot" in facts:
        found["ansible_is_chroot"] = True
    # Process 1 is imgbuild's: what the image starts with counts.
    if "ansible_service_mgr" in facts:
        has_systemd = any(os.path.exists(tree() + image_path(path)) for path in ("/usr/bin/systemctl", "/bin/systemctl"))
        found["ansible_service_mgr"] = "systemd" if has_systemd else "sysvinit"
    return found


def date_time(epoch):
    from datetime import datetime, timezone

    now = datetime.fromtimestamp(epoch, timezone.utc)
    texts = {
        "year": "%Y", "month": "%m", "weekday": "%A", "weekday_number": "%w", "weeknumber": "%W", "day": "%d", "hour": "%H",
        "minute": "%M", "second": "%S", "date": "%Y-%m-%d", "time": "%H:%M:%S", "iso8601": "%Y-%m-%dT%H:%M:%SZ",
        "iso8601_micro": "%Y-%m-%dT%H:%M:%S.000000Z", "iso8601_basic": "%Y%m%dT%H%M%S000000",
        "iso8601_basic_short": "%Y%m%dT%H%M%S",
    }
    found = {key: now.strftime(text) for key, text in texts.items()}
    found.update(epoch=str(epoch), epoch_int=str(epoch), tz="UTC", tz_dst="UTC", tz_offset="+0000")
    return found


def rewritten(output):
    """The answer of a module, with settled facts where it has facts."""
    if b"ansible_facts" not in output:
        return output
    try:
        answer = json.loads(output)
    except ValueError:
        return output
    facts = answer.get("ansible_facts") if isinstance(answer, dict) else None
    if not isinstance(facts, dict) or not any(key.startswith("ansible_") for key in facts):
        return output
    answer["ansible_facts"] = settled(facts)
    return json.dumps(answer).encode()


class Connection(ConnectionBase):
    """The image's tree."""

    transport = "imgbuild"
    has_pipelining = True
    default_user = "root"

    def _connect(self):
        self._connected = True
        return self

    def exec_command(self, cmd, in_data=None, sudoable=False):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)

        def enter():
            os.chroot(tree())
            os.chdir("/")

        environment = {key: os.environ[key] for key in ("LC_ALL", "TZ", "TERM", "SOURCE_DATE_EPOCH") if key in os.environ}
        environment.update(
            PATH=os.environ.get("IMGBUILD_IMAGE_PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            HOME="/root",
            USER="root",
            LOGNAME="root",
            SHELL="/bin/sh",
            SYSTEMD_OFFLINE="1",
            DEBIAN_FRONTEND="noninteractive",
            PYTHONDONTWRITEBYTECODE="1",
            PYTHONHASHSEED="0",
        )
        words = ["/bin/sh", "-c", cmd]
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, preexec_fn=enter
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise AnsibleError("cannot run /bin/sh in the image: %s" % error)
        out, err = process.communicate(in_data)
        return process.returncode, rewritten(out), err

    def _place(self, path):
        if not path.startswith("/"):
            path = "/root/" + path
        folder, name = os.path.split(os.path.normpath(path))
        return tree() + image_path(folder).rstrip("/") + "/" + name

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        try:
            shutil.copyfile(in_path, self._place(out_path))
        except OSError as error:
            raise AnsibleError("cannot copy %s to %s of the image: %s" % (in_path, out_path, error))

    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        source = tree() + image_path(in_path)
        try:
            shutil.copyfile(source, out_path)
        except OSError as error:
            raise AnsibleError("cannot read %s of the image: %s" % (in_path, error))

    def close(self):
        self._connected = False

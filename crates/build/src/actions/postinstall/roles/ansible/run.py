"""Runs a playbook against the image's tree, as ansible-playbook does.

What starts and stops services only says so, and enables instead; package lists are not fetched, for there is no network; nothing restarts.
"""

import glob
import json
import os
import sys
import time

PLACE = os.environ["IMGBUILD_PLACE"]
sys.path.insert(0, PLACE)
sys.dont_write_bytecode = True

from ansible.plugins.action import ActionBase  # noqa: E402

from imgbuild_common import image_path, write  # noqa: E402

SERVICES = ("service", "systemd", "systemd_service", "sysvinit")
STATES = ("started", "restarted", "reloaded", "stopped")
# Options of package modules that fetch lists, by the module's last name.
FETCHES = ("apt", "apt_rpm", "dnf", "dnf5", "yum", "zypper", "package")
TREE = os.environ.get("IMGBUILD_TREE", "/target")
JOBS = "/run/imgbuild-roles/async"
UNITS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")


def short(name):
    return str(name).rsplit(".", 1)[-1]


def is_true(value):
    return value is True or str(value).lower() in ("yes", "true", "on", "1", "y", "t")


def unit_of(name):
    """The unit that a name stands for: systemctl enables none by an alias."""
    if not isinstance(name, str) or "/" in name:
        return name
    known = (".service", ".target", ".socket", ".timer", ".mount", ".path", ".device", ".slice", ".swap", ".automount", ".scope")
    unit = name if name.endswith(known) else name + ".service"
    for folder in UNITS:
        path = folder + "/" + unit
        if os.path.islink(TREE + path):
            target = image_path(path)
            found = os.path.basename(target)
            if target == "/dev/null" or not found.endswith(known) or "@" in unit:
                return name
            return found
        if os.path.exists(TREE + path):
            return name
    return name


def only_until_restart(unit):
    """Links that enable a unit until the next start only."""
    unit = unit if "." in unit else unit + ".service"
    for kind in ("wants", "requires"):
        yield from glob.glob("%s/run/systemd/system/*.%s/%s" % (TREE, kind, glob.escape(unit)))


def service(arguments):
    """What becomes of a service's options: those for the module, none where nothing is left to do."""
    state = arguments.pop("state", None)
    name = arguments.get("name") or arguments.get("service") or arguments.get("unit")
    if state in STATES:
        write({"kind": "state", "task": str(name), "message": str(state)})
    if state == "started" and arguments.get("enabled") is None:
        arguments["enabled"] = True
    if state is not None and state not in STATES:
        arguments["state"] = state
    for key in ("name", "service", "unit"):
        if isinstance(arguments.get(key), str):
            arguments[key] = unit_of(arguments[key])
    if is_true(arguments.get("enabled")) and isinstance(name, str):
        for link in only_until_restart(unit_of(name)):
            os.unlink(link)
    if all(arguments.get(key) is None for key in ("state", "enabled", "masked", "daemon_reload", "daemon_reexec")):
        return None
    return arguments


def is_of_image(action):
    return getattr(action._connection, "transport", "") == "imgbuild"


def execute(original):
    def wrapped(self, module_name=None, module_args=None, *rest, **words):
        name = short(module_name or self._task.action)
        if not is_of_image(self) or name not in SERVICES + FETCHES:
            return original(self, module_name, module_args, *rest, **words)
        arguments = dict(self._task.args if module_args is None else module_args)
        if name in SERVICES:
            arguments = service(arguments)
            if arguments is None:
                return {"changed": False, "msg": "nothing runs in an image"}
        elif any(arguments.get(key) for key in ("name", "pkg", "package")):
            for key in ("update_cache", "update-cache", "cache_valid_time", "refresh"):
                arguments.pop(key, None)
        return original(self, module_name, arguments, *rest, **words)

    return wrapped


def no_restart(self, tmp=None, task_vars=None):
    write({"kind": "state", "task": "the node", "message": "rebooted"})
    return {"changed": False, "rebooted": False, "msg": "an image is not rebooted"}


def wait_for_jobs(seconds):
    """Waits for what runs on with `poll: 0`; gives those that failed or did not end."""
    end = time.monotonic() + seconds
    while True:
        open_ones, failed = [], []
        for path in sorted(glob.glob(TREE + JOBS + "/*")):
            if os.path.basename(path).startswith("."):
                continue
            try:
                with open(path) as file:
                    found = json.load(file)
            except (OSError, ValueError):
                open_ones.append(path)
                continue
            if not found.get("finished") and "ansible_job_id" in found and found.get("started"):
                open_ones.append(path)
            elif found.get("failed") or found.get("rc"):
                failed.append((path, str(found.get("msg") or found.get("stderr") or "")))
        if not open_ones or time.monotonic() > end:
            return failed + [(path, "it did not end") for path in open_ones]
        time.sleep(0.2)


def main():
    ActionBase._execute_module = execute(ActionBase._execute_module)
    import ansible.plugins.action.reboot as reboot

    reboot.ActionModule.run = no_restart
    from ansible.cli.playbook import PlaybookCLI

    os.makedirs(TREE + JOBS, mode=0o700, exist_ok=True)
    try:
        status = PlaybookCLI(["ansible-playbook"] + sys.argv[1:]).run()
    except SystemExit as ended:
        status = ended.code
    except Exception as error:  # Files that cannot be read, and the like.
        print("ERROR! %s" % error, file=sys.stderr)
        write({"kind": "error", "task": "", "message": str(error)})
        return 1
    # A job that a later task asked for and found failed was reported by that task.
    if status in (0, None):
        for path, message in wait_for_jobs(3600):
            write({"kind": "failed", "task": "job " + os.path.basename(path), "module": "async", "place": "", "message": message})
            status = 2
    return status or 0


if __name__ == "__main__":
    sys.exit(main())

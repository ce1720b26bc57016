"""What imgbuild's parts of a run of Ansible have in common."""

import json
import os


def image_path(path, root=None):
    """Where a path of the image leads to, by links that are the image's; as a path of the image."""
    root = root or os.environ.get("IMGBUILD_TREE", "/target")
    for _ in range(40):
        parts = [part for part in path.split("/") if part]
        walked = ""
        for index, part in enumerate(parts):
            if part == "..":
                walked = walked.rpartition("/")[0]
                continue
            if part == ".":
                continue
            here = walked + "/" + part
            if os.path.islink(root + here):
                target = os.readlink(root + here)
                base = target if target.startswith("/") else walked + "/" + target
                path = "/".join([base] + parts[index + 1:])
                break
            walked = here
        else:
            return walked or "/"
    return path


def write(record):
    """Appends a record to the report: one line, in one write."""
    path = os.environ.get("IMGBUILD_REPORT")
    if path:
        with open(path, "ab", buffering=0) as report:
            report.write(json.dumps(record).encode() + b"\n")

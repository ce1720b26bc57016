"""Writes what imgbuild wants to know of a run: which task failed and where, and which host patterns match nothing."""

DOCUMENTATION = """
    name: imgbuild
    type: notification
    short_description: a report for imgbuild
    description:
        - Writes failed tasks with file and line.
    author: imgbuild
"""

import json

from ansible.plugins.callback import CallbackBase

from imgbuild_common import write


def text_of(value):
    if isinstance(value, (list, tuple)):
        return "\n".join(text_of(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def message_of(result):
    """What a result says of its failure, in one text."""
    parts = []
    for item in result.get("results") or []:
        if isinstance(item, dict) and item.get("failed"):
            parts.append(message_of(item))
    for key in ("msg", "reason", "exception", "module_stderr", "module_stdout", "stderr", "stdout"):
        value = result.get(key)
        if value and not (key == "exception" and parts):
            text = text_of(value).strip()
            if text and text not in parts:
                parts.append(text)
    return "\n".join(parts)[:4000]


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "imgbuild"
    CALLBACK_NEEDS_ENABLED = True
    CALLBACK_NEEDS_WHITELIST = True

    def __init__(self, *arguments, **words):
        super().__init__(*arguments, **words)
        self.play = None
        self.ran = False

    def v2_playbook_on_play_start(self, play):
        self.play = play

    def v2_playbook_on_task_start(self, task, is_conditional):
        if not self.ran:
            self.ran = True
            write({"kind": "ran"})

    def v2_playbook_on_no_hosts_matched(self):
        name = self.play.get_name() if self.play else ""
        hosts = text_of(getattr(self.play, "hosts", "") or "")
        write({"kind": "no-hosts", "task": name, "message": hosts})

    def failed(self, kind, result, ignored):
        task = result._task
        found = result._result
        write({
            "kind": "ignored" if ignored else kind,
            "task": task.get_name(),
            "module": str(task.action),
            "place": task.get_path() or "",
            "message": message_of(found),
        })

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.failed("failed", result, ignore_errors)

    def v2_runner_on_unreachable(self, result):
        self.failed("unreachable", result, bool(getattr(result._task, "ignore_unreachable", False)))

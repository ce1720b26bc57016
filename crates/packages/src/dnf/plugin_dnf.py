"""Prints what dnf resolved, for imgbuild: one line per package, with tabs between its words."""

import atexit
import sys

import dnf
import dnf.transaction
import libdnf.transaction

BY_ITSELF = (
    libdnf.transaction.TransactionItemReason_DEPENDENCY,
    libdnf.transaction.TransactionItemReason_WEAK_DEPENDENCY,
)


def tell(*words):
    sys.stdout.write('\t'.join(('== answer',) + words) + '\n')


def kind(item):
    if item.action == dnf.transaction.PKG_INSTALL:
        return 'needed' if item.reason in BY_ITSELF else 'asked'
    return {
        dnf.transaction.PKG_REINSTALL: 'asked',
        dnf.transaction.PKG_UPGRADE: 'needed',
        dnf.transaction.PKG_DOWNGRADE: 'needed',
        dnf.transaction.PKG_ERASE: 'removed',
        dnf.transaction.PKG_OBSOLETED: 'removed',
    }.get(item.action)


class Answer(dnf.Plugin):
    name = 'imgbuild'

    def resolved(self):
        tell('begin')
        for item in self.base.transaction or ():
            if kind(item):
                one = item.pkg
                tell(kind(item), one.name, one.arch, one.evr, one.reponame)
        # dnf switches streams on after this.
        atexit.register(self.streams, self.base._moduleContainer)

    @staticmethod
    def streams(modules):
        if modules:
            for name, stream in sorted(dict(modules.getEnabledStreams()).items()):
                tell('stream', name, stream)

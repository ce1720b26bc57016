"""Prints what yum resolved, for imgbuild: one line per package, with tabs between its words."""

import sys

from yum.plugins import TYPE_CORE

requires_api_version = '2.1'
plugin_type = (TYPE_CORE,)

SECTIONS = (
    ('asked', ('installed', 'reinstalled')),
    ('needed', ('depinstalled', 'updated', 'depupdated', 'downgraded')),
    ('removed', ('removed', 'depremoved', 'obsoleted')),
)


def tell(*words):
    sys.stdout.write('\t'.join(('== answer',) + words) + '\n')


def postresolve_hook(conduit):
    tell('begin')
    info = conduit.getTsInfo()
    info.makelists(True, True)
    for kind, lists in SECTIONS:
        for name in lists:
            for one in getattr(info, name):
                evr = '%s:%s-%s' % (one.epoch or '0', one.version, one.release)
                tell(kind, one.name, one.arch, evr, one.repoid)

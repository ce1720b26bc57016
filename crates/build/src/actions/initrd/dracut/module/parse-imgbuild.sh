#!/bin/sh
# The root is not on a device that could be waited for: the mount hook makes it, or says on the console what is wrong.
# shellcheck disable=SC2034
root=imgbuild
rootok=1
netroot=

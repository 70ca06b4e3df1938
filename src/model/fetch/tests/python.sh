#!/bin/sh
# Stands in for `python3 -m pip download … --dest FOLDER NAME==VERSION`. Each test links to this file and puts
# what its pip does into body.sh beside the link. A script written and run by the test itself would now and
# then be "busy": another test's fork may still hold it open for writing.
for last; do dest=$package; package=$last; done
. "$(dirname "$0")/body.sh"

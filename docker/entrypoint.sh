#!/bin/bash
# Runs a command with ROS and lingbot_va in its environment.
set -e
source /opt/lingbot_va/setup.bash
exec "$@"

#!/bin/bash
# Healthy is a container whose node is active: LINGBOT_VA_HEALTH_NODE, by its full name.
source /opt/lingbot_va/setup.bash
state=$(ros2 lifecycle get "${LINGBOT_VA_HEALTH_NODE:-/world_model}") && [[ $state == active* ]]

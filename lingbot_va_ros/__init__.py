"""ROS 2 nodes, bring-up, recording and the command line of LingBot-VA."""

"""MuJoCo robots, tasks, cameras and trajectory controllers."""

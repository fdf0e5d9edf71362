"""The node that runs episodes: real latents and executed actions in, imagined latents and action chunks out."""

import threading
import time
from dataclasses import dataclass, field

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from lingbot_va_core.clock import NANOSECONDS, VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.robot import load_profile
from lingbot_va_msgs.action import RunTask
from lingbot_va_msgs.msg import ActionChunk, Episode, ExecutedActions, LatentFrame, Status
from lingbot_va_msgs.srv import SetInstruction
from lingbot_va_ros import qos
from lingbot_va_ros.conversions import (
    MessageError,
    actions_field,
    executed_array,
    latent_array,
    latent_message,
    to_duration,
    to_ns,
    to_time,
)
from lingbot_va_ros.inference import InferenceThread, Prediction, warm_up
from lingbot_va_ros.managed_node import ERROR, OK, ROBOT, WARN, ManagedNode, Parameter, log_at, run
from lingbot_va_ros.model_parameters import MODEL_PARAMETERS, load
from lingbot_va_ros.modes import AVAILABLE, MODES

MAX_INSTRUCTION = 512
POLL_S = 0.05
FEEDBACK_S = 0.5


@dataclass
class Task:
    """A running episode. `done` is set once, by whoever ends it; the thread that serves the goal waits for it."""

    episode: int
    instruction: str
    time_limit_ns: int
    started_ns: int
    chunks: int = 0
    last_latent_at: float = field(default_factory=time.monotonic)
    outcome: int = RunTask.Result.FAILED
    message: str = ''
    done: threading.Event = field(default_factory=threading.Event)


class WorldModelNode(ManagedNode):
    """Serves run_task; the session itself lives in the inference thread."""

    THREADS = 2  # one waits for the end of a task

    PARAMETERS = (
        ROBOT,
        *MODEL_PARAMETERS,
        Parameter('mode', 'sync', 'How the next chunk gets its context (docs/architecture.md).', choices=AVAILABLE),
        Parameter('noise_seed', 0, 'Seed of the noise that is denoised.', lower=0, upper=2**31 - 1),
        Parameter('instruction', '', 'Instruction of run_task goals that carry none.'),
        Parameter('lead_ms', 20.0, 'A chunk in mode sync begins at least so long after it is published.', 0.0, 1000.0),
        Parameter('observation_timeout_s', 5.0, 'A task fails without latent frames for longer.', 0.5, 600.0),
    )

    def __init__(self) -> None:
        super().__init__('world_model')

    def setup(self) -> None:
        """Load the model, warm up, and create entities."""
        self._profile = profile = load_profile(self.value('robot'))
        self._latent_clock = profile.clock
        model = load(self, profile)
        self._model_name = model.name
        self.get_logger().info(f'{model.name}: {1e3 * warm_up(model):.0f} ms per chunk')
        self._mode = MODES.index(self.value('mode'))
        self._instruction = self.value('instruction')
        self._lock = threading.Lock()
        self._task: Task | None = None
        self._episodes = 0
        self._status = Status(model=model.name)
        self._last_outcome, self._last_failed = '', False
        self._inference = InferenceThread(
            model, self.value('noise_seed'), self._on_busy, self._on_prediction, self._on_failure
        )
        self.on_teardown(self._inference.close)
        self._episode_publisher = self.publisher(Episode, 'episode', qos.LATCHED)
        self._chunk_publisher = self.publisher(ActionChunk, 'action_chunk', qos.CHUNK)
        self._imagined_publisher = self.publisher(LatentFrame, 'imagined', qos.STREAM)
        self._status_publisher = self.publisher(Status, 'status', qos.LATCHED)
        self.subscription(LatentFrame, 'latents', self._on_latent, qos.STREAM)
        self.subscription(ExecutedActions, 'executed_actions', self._on_executed, qos.STREAM)
        self.subscription(Bool, 'task_success', self._on_success, qos.LATCHED)
        self.service(SetInstruction, 'set_instruction', self._on_set_instruction)
        self.service(Trigger, 'reset', self._on_reset)
        self.timer(1.0, self._publish_status, self._steady)
        server = ActionServer(
            self,
            RunTask,
            'run_task',
            self._run_task,
            goal_callback=self._on_goal,
            cancel_callback=lambda handle: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )
        self.on_teardown(server.destroy)

    def start(self) -> None:
        """Announce that nothing runs."""
        self._announce(Episode())

    def stop(self) -> None:
        """End the running task; its goal is aborted."""
        self._end(RunTask.Result.FAILED, 'the world model was deactivated')

    # Tasks

    def _on_goal(self, goal: RunTask.Goal) -> GoalResponse:
        reason = ''
        if not self.active:
            reason = 'the world model is not active'
        elif self._task is not None:
            reason = f'episode {self._task.episode} is running; cancel it first'
        elif not (goal.instruction or self._instruction):
            reason = 'no instruction: give one in the goal, by set_instruction or by the parameter instruction'
        elif to_ns(goal.time_limit) <= 0:
            reason = f'time_limit is {to_ns(goal.time_limit) / NANOSECONDS:g} s; it must be above 0'
        if reason:
            self.get_logger().error(f'run_task refused: {reason}')
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _run_task(self, goal: ServerGoalHandle) -> RunTask.Result:
        """Run one episode; blocks a thread of its own until somebody ends it."""
        task = self._begin(goal.request)
        if task is None:
            goal.abort()
            return RunTask.Result(outcome=RunTask.Result.FAILED, message='another task was started at the same time')
        feedback_at = time.monotonic()
        while not task.done.wait(POLL_S):
            elapsed_ns = self.get_clock().now().nanoseconds - task.started_ns
            if goal.is_cancel_requested:
                self._end(RunTask.Result.CANCELED, 'canceled')
            elif elapsed_ns >= task.time_limit_ns:
                limit = task.time_limit_ns / NANOSECONDS
                self._end(RunTask.Result.TIME_LIMIT, f'the time limit of {limit:g} s is over')
            elif time.monotonic() - task.last_latent_at > self.value('observation_timeout_s'):
                reason = f'no latent frame came for {self.value("observation_timeout_s"):g} s'
                self._end(RunTask.Result.FAILED, f'{reason}; see the diagnostics of perception and action')
            elif time.monotonic() - feedback_at >= FEEDBACK_S:
                feedback_at = time.monotonic()
                goal.publish_feedback(
                    RunTask.Feedback(elapsed=to_duration(elapsed_ns), chunks=task.chunks, state=self._status.state)
                )
        if task.outcome == RunTask.Result.CANCELED:
            goal.canceled()
        elif task.outcome == RunTask.Result.FAILED:
            goal.abort()
        else:
            goal.succeed()
        elapsed = to_duration(max(self.get_clock().now().nanoseconds - task.started_ns, 0))
        return RunTask.Result(
            outcome=task.outcome, message=task.message, episode=task.episode, chunks=task.chunks, elapsed=elapsed
        )

    def _begin(self, goal: RunTask.Goal) -> Task | None:
        with self._lock:
            if self._task is not None or not self.active:
                return None
            self._episodes += 1
            now = self.get_clock().now().nanoseconds
            instruction = goal.instruction or self._instruction
            self._task = task = Task(self._episodes, instruction, to_ns(goal.time_limit), now)
        self._inference.begin(task.episode, instruction)
        episode = Episode(episode=task.episode, mode=self._mode, instruction=instruction)
        episode.header.stamp = to_time(now)
        self.get_logger().info(f"episode {task.episode}: '{instruction}', at most {to_ns(goal.time_limit) / 1e9:g} s")
        self._announce(episode)
        self._set_state(Status.OBSERVING)
        return task

    def _end(self, outcome: int, message: str, episode: int | None = None) -> None:
        """End the running task, unless it is another than `episode`; the arms hold from here on."""
        with self._lock:
            task = self._task
            if task is None or episode not in (None, task.episode):
                return
            self._task = None
            task.outcome, task.message = outcome, message
        self._inference.begin(0, '')
        self._announce(Episode())
        self._last_outcome, self._last_failed = message, outcome == RunTask.Result.FAILED
        level = ERROR if self._last_failed else OK
        log_at(self.get_logger(), level, f'episode {task.episode} ended after {task.chunks} chunks: {message}')
        self._set_state(Status.IDLE)
        task.done.set()

    def _announce(self, episode: Episode) -> None:
        if not episode.episode:
            episode.header.stamp = self.get_clock().now().to_msg()
        self._episode_publisher.publish(episode)

    def _on_success(self, message: Bool) -> None:
        if message.data:
            self._end(RunTask.Result.SUCCEEDED, 'task_success was reported')

    def _on_set_instruction(
        self, request: SetInstruction.Request, response: SetInstruction.Response
    ) -> SetInstruction.Response:
        text = request.instruction.strip()
        response.success = self.active and 0 < len(text) <= MAX_INSTRUCTION
        if not self.active:
            response.message = 'the world model is not active'
        elif not response.success:
            response.message = f'the instruction has {len(text)} characters; give 1 to {MAX_INSTRUCTION}'
        elif self._task is None:
            self._instruction = text
            response.message = 'set for goals without an instruction'
        else:
            self._task.instruction = text
            self._inference.set_instruction(text)
            response.message = f'set for episode {self._task.episode}, from its next chunk on'
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        running = self._task is not None
        self._end(RunTask.Result.FAILED, 'reset')
        response.success = True
        response.message = 'the running episode was ended' if running else 'no episode was running'
        return response

    # Inputs

    def _on_latent(self, message: LatentFrame) -> None:
        task = self._task
        if task is None or message.episode != task.episode:
            return
        task.last_latent_at = time.monotonic()
        try:
            latent = latent_array(message)
        except MessageError as error:
            self._end(RunTask.Result.FAILED, str(error))
            return
        self._inference.observe(message.episode, message.index, latent, to_ns(message.header.stamp))

    def _on_executed(self, message: ExecutedActions) -> None:
        task = self._task
        if task is None or message.episode != task.episode:
            return
        try:
            actions = executed_array(message, self._latent_clock)
        except MessageError as error:
            self._end(RunTask.Result.FAILED, str(error))
            return
        self._inference.executed(message.episode, message.latent_index, actions)

    # Outputs, called from the inference thread

    def _on_busy(self) -> None:
        self._set_state(Status.PREDICTING)

    def _on_failure(self, episode: int, reason: str) -> None:
        self._end(RunTask.Result.FAILED, reason, episode)

    def _on_prediction(self, prediction: Prediction) -> None:
        task, chunk = self._task, prediction.chunk
        if task is None or prediction.episode != task.episode:
            return
        start_ns = self._chunk_start(prediction.newest_ns)
        message = ActionChunk(
            episode=prediction.episode,
            chunk=chunk.index,
            first_latent_index=chunk.first_latent_index,
            latent_frames=len(chunk.actions),
            actions_per_latent=self._latent_clock.actions_per_latent,
            dt=to_duration(self._latent_clock.action_ns),
            mask=self._profile.mask.tolist(),
            actions=actions_field(chunk.actions),
            mode=self._mode,
            model=self._model_name,
            observation_indices=list(chunk.observation_indices),
            observation_stamps=[to_time(stamp) for stamp in prediction.observation_stamps],
            grounding_ms=1e3 * chunk.grounding_s,
            video_ms=1e3 * chunk.video_s,
            action_ms=1e3 * chunk.action_s,
            latency_ms=1e3 * (time.perf_counter() - prediction.input_at),
        )
        message.header.stamp = to_time(start_ns)
        self._chunk_publisher.publish(message)
        task.chunks += 1
        self._status.latency_ms = message.latency_ms
        self._status.motion_ms = len(chunk.actions) * self._latent_clock.latent_ns / 1e6
        self._set_state(Status.EXECUTING)
        self._publish_imagined(prediction, start_ns)

    def _chunk_start(self, newest_ns: int) -> int:
        """Begin a synchronous chunk on the video clock, at least `lead_ms` from now (docs/architecture.md)."""
        earliest = self.get_clock().now().nanoseconds + round(self.value('lead_ms') * 1e6)
        periods = max(0, -((newest_ns - earliest) // self._latent_clock.video_ns))
        return newest_ns + periods * self._latent_clock.video_ns

    def _publish_imagined(self, prediction: Prediction, start_ns: int) -> None:
        chunk, clock = prediction.chunk, self._latent_clock
        for i, latent in enumerate(chunk.latents.numpy()):
            begin = start_ns + i * clock.latent_ns
            stamps = [begin + (j + 1) * clock.video_ns for j in range(VIDEO_FRAMES_PER_LATENT)]
            message = latent_message(
                latent, prediction.episode, chunk.first_latent_index + i, stamps, self._model_name, self._profile
            )
            message.imagined = True
            self._imagined_publisher.publish(message)

    def _set_state(self, state: int) -> None:
        self._status.state = state
        self._publish_status()

    def _publish_status(self) -> None:
        task, status = self._task, self._status
        status.header.stamp = self.get_clock().now().to_msg()
        status.episode = task.episode if task else 0
        status.chunks = task.chunks if task else 0
        status.instruction = task.instruction if task else self._instruction
        self._status_publisher.publish(status)

    def update_diagnostics(self) -> None:
        """Say what came of the last task, and the last chunk's latency."""
        failed = self._last_failed and self._task is None
        self.report(
            WARN if failed else OK,
            f'the last task failed: {self._last_outcome}' if failed else '',
            episode=self._task.episode if self._task else 0,
            episodes=self._episodes,
            last_outcome=self._last_outcome,
            latency_ms=f'{self._status.latency_ms:.1f}',
            model=self._model_name,
        )


def main() -> None:
    """Run the node."""
    run(WorldModelNode)


if __name__ == '__main__':
    main()

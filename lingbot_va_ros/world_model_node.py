"""The node that runs episodes: real latents and executed actions in, imagined latents and action chunks out."""

import math
import threading
import time

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.model_card import misfit
from lingbot_va_core.pacing import LATE, Pacer
from lingbot_va_core.prediction_error import PredictionError
from lingbot_va_core.robot import ACTION_DIM, load_profile
from lingbot_va_core.session import Session
from lingbot_va_msgs.action import RunTask
from lingbot_va_msgs.msg import ActionChunk, ActionState, Episode, ExecutedActions, LatentFrame, Status
from lingbot_va_msgs.msg import PredictionError as PredictionErrorMessage
from lingbot_va_msgs.srv import SetInstruction
from lingbot_va_ros import qos
from lingbot_va_ros.action_messages import pose_frame
from lingbot_va_ros.conversions import MessageError, executed_array, latent_array, to_duration, to_ns
from lingbot_va_ros.inference import InferenceThread, Prediction, warm_up
from lingbot_va_ros.managed_node import ERROR, OK, ROBOT, WARN, ManagedNode, Parameter, log_at, run
from lingbot_va_ros.model_parameters import MODEL_PARAMETERS, choice, declare_choice, load
from lingbot_va_ros.modes import MODES
from lingbot_va_ros.prediction_messages import chunk_message, error_message, imagined_messages
from lingbot_va_ros.task import Task

MAX_INSTRUCTION = 512
POLL_S = 0.05
FEEDBACK_S = 0.5
CANCEL_S = 0.001
GROUND, HOLD = 'ground', 'hold'
STOPPED = (ActionState.FAULT, ActionState.E_STOPPED)


class WorldModelNode(ManagedNode):
    """Serves run_task; the session itself lives in the inference thread."""

    THREADS = 2  # one waits for the end of a task

    PARAMETERS = (
        ROBOT,
        *MODEL_PARAMETERS,
        Parameter('mode', 'fdm', 'How the next chunk gets its context (docs/architecture.md).', choices=MODES),
        Parameter('late', 'hold', 'When inference cannot keep up, the arms hold or go slowly.', choices=LATE),
        Parameter('lead_ms', 20.0, 'A chunk is ready so long before its motion begins.', 0.0, 1000.0),
        Parameter('noise_seed', 0, 'Seed of the noise that is denoised.', lower=0, upper=2**31 - 1),
        Parameter('instruction', '', 'Instruction of run_task goals that carry none.'),
        Parameter('latent_timeout_s', 3.0, 'A latent frame that is later than its motion by more is lost.', 0.1, 60.0),
        Parameter('observation_timeout_s', 30.0, 'A task fails without latent frames for longer.', 0.5, 600.0),
        Parameter(
            'max_prediction_error',
            0.0,
            'Above it, imagination is not relied on (docs/nodes.md); 0: it always is.',
            0.0,
            1e3,
        ),
        Parameter(
            'on_prediction_error',
            GROUND,
            'Above max_prediction_error the next chunk waits until all is real, or the arms hold at once.',
            choices=(GROUND, HOLD),
        ),
    )

    def __init__(self) -> None:
        super().__init__('world_model')
        declare_choice(self)
        self._tasks = self._episodes = 0  # never twice the same while the process lives

    def setup(self) -> None:
        """Load the model, warm up, and create entities."""
        self._profile = profile = load_profile(self.value('robot'))
        self._latent_clock = profile.clock
        model = load(self, profile, 'transformer')
        self._model_name, self._training = model.name, model.training
        self._pose_frame = pose_frame(model.config.rollout.relative_poses, profile.mask)
        if notice := choice(self, profile).notice or misfit(model.name, model.training, profile.name):
            self.get_logger().warning(notice)
        mode = self.value('mode')
        kind = f'{str(model.dtype).removeprefix("torch.")} on {model.device}'
        self.get_logger().info(f'{model.name}, {kind}: {1e3 * warm_up(model, mode):.0f} ms per chunk in mode {mode}')
        self._mode = MODES.index(mode)
        self._instruction = self.value('instruction')
        self._lock = threading.Lock()
        self._task: Task | None = None
        self._goal: ServerGoalHandle | None = None
        self._restarts = self._distrusted = 0
        self._action_state = ActionState(speed=1.0)
        self._status = Status(model=model.name, speed=1.0)
        self._last_outcome, self._last_failed = '', False
        self._inference = InferenceThread(
            Session(model, mode, self.value('noise_seed')),
            Pacer(profile.clock, mode, round(self.value('lead_ms') * 1e6), self.value('late')),
            self._now,
            self.value('use_sim_time'),
            self._on_busy,
            self._on_prediction,
            self._on_error,
            self._on_failure,
        )
        self.on_teardown(self._inference.close)
        self._episode_publisher = self.publisher(Episode, 'episode', qos.LATCHED)
        self._chunk_publisher = self.publisher(ActionChunk, 'action_chunk', qos.CHUNK)
        self._imagined_publisher = self.publisher(LatentFrame, 'imagined', qos.STREAM)
        self._error_publisher = self.publisher(PredictionErrorMessage, 'prediction_error', qos.STREAM)
        self._status_publisher = self.publisher(Status, 'status', qos.LATCHED)
        self.subscription(LatentFrame, 'latents', self._on_latent, qos.STREAM)
        self.subscription(ExecutedActions, 'executed_actions', self._on_executed, qos.STREAM)
        self.subscription(ActionState, 'action_state', self._on_action_state, qos.LATCHED)
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
            cancel_callback=self._on_cancel,
            callback_group=ReentrantCallbackGroup(),
        )
        self.on_teardown(server.destroy)

    def start(self) -> None:
        """Announce that nothing runs."""
        self._announce(None)

    def stop(self) -> None:
        """End the running task; its goal is aborted."""
        self._end(RunTask.Result.FAILED, 'the world model was deactivated')

    # Tasks

    def _on_goal(self, goal: RunTask.Goal) -> GoalResponse:
        reason, task, arms = '', self._task, self._action_state
        if not self.active:
            reason = 'the world model is not active'
        elif task is not None:
            reason = f'episode {task.episode} is running; cancel it first'
        elif arms.state in STOPPED:
            reason = f'the arms are stopped ({arms.reason}); call action/reset first'
        elif not (goal.instruction or self._instruction):
            reason = 'no instruction: give one in the goal, by set_instruction or by the parameter instruction'
        elif to_ns(goal.time_limit) <= 0:
            reason = f'time_limit is {to_ns(goal.time_limit) / NANOSECONDS:g} s; it must be above 0'
        if reason:
            self.get_logger().error(f'run_task refused: {reason}')
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        """End the task at once: the arms hold before the client has its answer."""
        if goal is self._goal:
            self._end(RunTask.Result.CANCELED, 'canceled')
        return CancelResponse.ACCEPT

    def _run_task(self, goal: ServerGoalHandle) -> RunTask.Result:
        """Run one episode; blocks a thread of its own until somebody ends it."""
        task = self._begin(goal.request)
        if task is None:
            goal.abort()
            return RunTask.Result(outcome=RunTask.Result.FAILED, message='another task was started at the same time')
        self._goal = goal
        try:
            self._serve(goal, task)
        finally:
            self._end(RunTask.Result.FAILED, 'run_task failed', task.episode)
            self._goal = None
        if task.outcome == RunTask.Result.CANCELED:
            while not goal.is_cancel_requested:  # it becomes so when `_on_cancel` has returned
                time.sleep(CANCEL_S)
            goal.canceled()
        elif task.outcome == RunTask.Result.FAILED:
            goal.abort()
        else:
            goal.succeed()
        task.look_at_clock(self._now())
        return RunTask.Result(
            outcome=task.outcome,
            message=task.message,
            episode=task.episode,
            chunks=task.all_chunks,
            elapsed=to_duration(task.elapsed_ns),
        )

    def _serve(self, goal: ServerGoalHandle, task: Task) -> None:
        """Watch over a task until somebody ends it."""
        feedback_at = time.monotonic()
        while not task.done.wait(POLL_S):
            if goal.is_cancel_requested:
                self._end(RunTask.Result.CANCELED, 'canceled', task.episode)
            else:
                self._watch(task)
            if time.monotonic() - feedback_at >= FEEDBACK_S:
                feedback_at = time.monotonic()
                goal.publish_feedback(self._feedback(task))

    def _feedback(self, task: Task) -> RunTask.Feedback:
        status, error = self._status, task.error
        return RunTask.Feedback(
            elapsed=to_duration(task.elapsed_ns),
            episode=task.episode,
            chunks=task.all_chunks,
            state=status.state,
            mode=self._mode,
            latency_ms=status.latency_ms,
            margin_ms=status.margin_ms,
            prediction_error=error.error if error else math.nan,
        )

    def _watch(self, task: Task) -> None:
        """End the task or restart its context when time says so."""
        arms, failed, limit_s = self._action_state, RunTask.Result.FAILED, task.time_limit_ns / NANOSECONDS
        silence_s, latent_s = self.value('observation_timeout_s'), self._latent_clock.latent_ns / NANOSECONDS
        if task.look_at_clock(self._now()):
            self._restart(task.episode, 'the clock was set back')
        if arms.state == ActionState.PAUSED:
            task.do_not_wait()
        if task.elapsed_ns >= task.time_limit_ns:
            self._end(RunTask.Result.TIME_LIMIT, f'the time limit of {limit_s:g} s is over', task.episode)
        elif task.waited_s() > silence_s:
            reason = f'no latent frame came for {silence_s:g} s; see the diagnostics of perception and action'
            self._end(failed, reason, task.episode)
        elif task.stuck(self.value('latent_timeout_s'), latent_s / self._status.speed, arms.speed):
            self._restart(task.episode, f'latent frame {task.progress.real} did not become known in time')

    def _begin(self, goal: RunTask.Goal) -> Task | None:
        with self._lock:
            if self._task is not None or not self.active:
                return None
            self._tasks += 1
            self._episodes += 1
            instruction = goal.instruction or self._instruction
            limit_ns = to_ns(goal.time_limit)
            self._task = task = Task(self._tasks, self._episodes, instruction, limit_ns, self._now())
            self.get_logger().info(f"episode {task.episode}: '{instruction}', at most {limit_ns / NANOSECONDS:g} s")
            if notice := misfit(self._model_name, self._training, self._profile.name, instruction):
                self.get_logger().warning(f'{notice}; expect nothing of it')
            self._announce(task)
            self._set_state(Status.OBSERVING)
        return task

    def _restart(self, episode: int, reason: str) -> None:
        """Go on with the task in another episode, from real observations alone; the arms hold meanwhile."""
        with self._lock:
            task = self._task
            if task is None or task.episode != episode:
                return
            self._episodes += 1
            self._restarts += 1
            task.restart(self._episodes)
            self.get_logger().warning(f'episode {episode} goes on as episode {task.episode}: {reason}')
            self._announce(task)
            self._set_state(Status.OBSERVING)

    def _end(self, outcome: int, message: str, episode: int | None = None) -> None:
        """End the running task, unless its episode is another one; the arms hold from here on."""
        with self._lock:
            task = self._task
            if task is None or episode not in (None, task.episode):
                return
            self._task = None
            task.outcome, task.message = outcome, message
            self._announce(None)
            self._set_state(Status.IDLE)
        self._last_outcome, self._last_failed = message, outcome == RunTask.Result.FAILED
        level = ERROR if self._last_failed else OK
        log_at(self.get_logger(), level, f'episode {task.episode} ended after {task.all_chunks} chunks: {message}')
        task.done.set()

    def _announce(self, task: Task | None) -> None:
        """Begin the present episode of a task, or end the running one, for the session and all nodes."""
        episode = Episode(mode=self._mode)
        if task:
            episode.episode, episode.task, episode.instruction = task.episode, task.number, task.instruction
        episode.header.stamp = self.get_clock().now().to_msg()
        self._inference.begin(episode.episode, episode.instruction)
        self._episode_publisher.publish(episode)

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    def _on_success(self, message: Bool) -> None:
        if message.data:
            self._end(RunTask.Result.SUCCEEDED, 'task_success was reported')

    def _on_set_instruction(
        self, request: SetInstruction.Request, response: SetInstruction.Response
    ) -> SetInstruction.Response:
        text, task = request.instruction.strip(), self._task
        response.success = self.active and 0 < len(text) <= MAX_INSTRUCTION
        if not self.active:
            response.message = 'the world model is not active'
        elif not response.success:
            response.message = f'the instruction has {len(text)} characters; give 1 to {MAX_INSTRUCTION}'
        elif task is None:
            self._instruction = text
            response.message = 'set for goals without an instruction'
        else:
            task.instruction = text
            self._inference.set_instruction(text)
            response.message = f'set for episode {task.episode}, from its next chunk on'
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        running = self._task is not None
        self._end(RunTask.Result.FAILED, 'reset')
        response.success = True
        response.message = 'the running episode was ended' if running else 'no episode was running'
        return response

    # Inputs

    def _on_action_state(self, message: ActionState) -> None:
        self._action_state = message
        self._inference.pause(message.state == ActionState.PAUSED)
        if message.state in STOPPED:
            self._end(RunTask.Result.FAILED, f'the arms were stopped: {message.reason or "see the log of action"}')

    def _on_latent(self, message: LatentFrame) -> None:
        episode, index, stamp_ns = message.episode, message.index, to_ns(message.header.stamp)
        try:
            latent = None if message.missing else latent_array(message)
        except MessageError as error:
            self._end(RunTask.Result.FAILED, str(error), episode)
            return
        with self._lock:
            task = self._task
            if task is None or episode != task.episode:
                return
            if latent is None:
                contradiction = f'latent frame {index} is missing'
            else:
                contradiction = task.progress.observe(index, stamp_ns)
                task.note_latent(index)
        if contradiction:
            self._restart(episode, contradiction)
        else:
            self._inference.observe(episode, index, latent, stamp_ns)

    def _on_executed(self, message: ExecutedActions) -> None:
        episode, index = message.episode, message.latent_index
        try:
            actions = executed_array(message, self._latent_clock)
        except MessageError as error:
            self._end(RunTask.Result.FAILED, str(error), episode)
            return
        with self._lock:
            task = self._task
            if task is None or episode != task.episode:
                return
            contradiction = task.progress.execute(index)
        if contradiction:
            self._restart(episode, contradiction)
        else:
            self._inference.executed(episode, index, actions, to_ns(message.video_stamps[-1]))

    # Outputs, called from the inference thread

    def _on_busy(self, episode: int) -> None:
        with self._lock:
            if self._task is not None and self._task.episode == episode:
                self._set_state(Status.PREDICTING)

    def _on_failure(self, episode: int, reason: str) -> None:
        self._end(RunTask.Result.FAILED, reason, episode)

    def _on_error(self, episode: int, error: PredictionError, stamp_ns: int) -> None:
        """Publish how far imagination was from reality, and act where it was too far."""
        limit = self.value('max_prediction_error')
        distrusted = 0 < limit < error.error
        with self._lock:
            task = self._task
            if task is None or episode != task.episode:
                return
            task.error = error
            self._distrusted += distrusted
            self._error_publisher.publish(error_message(episode, error, stamp_ns))
        if distrusted and self.value('on_prediction_error') == HOLD:
            self._restart(
                episode, f'prediction error {error.error:.3g} of latent frame {error.index} is above {limit:g}'
            )
        elif distrusted:
            self._inference.ground(episode)

    def _on_prediction(self, prediction: Prediction) -> None:
        """Publish, unless the episode has ended meanwhile."""
        chunk, placement = prediction.chunk, prediction.placement
        message = chunk_message(prediction, self._mode, self._model_name, self._profile)
        message.header.frame_id = self._pose_frame
        with self._lock:
            task = self._task
            if task is None or prediction.episode != task.episode:
                return
            end = chunk.first_latent_index + len(chunk.actions)
            task.progress.plan(end, (placement.start_ns - self._now()) / NANOSECONDS)
            task.chunks += 1
            task.all_chunks += 1
            self._chunk_publisher.publish(message)
            status = self._status
            status.latency_ms, status.margin_ms, status.speed = message.latency_ms, message.margin_ms, placement.speed
            status.motion_ms = len(message.actions) // ACTION_DIM * placement.dt_ns / 1e6
            self._set_state(Status.EXECUTING)
        for imagined in imagined_messages(prediction, self._model_name, self._profile):
            self._imagined_publisher.publish(imagined)

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
        task = self._task
        failed = self._last_failed and task is None
        error = task.error if task else None
        self.report(
            WARN if failed else OK,
            f'the last task failed: {self._last_outcome}' if failed else '',
            episode=task.episode if task else 0,
            episodes=self._episodes,
            restarts=self._restarts,
            prediction_error=f'{error.error:.3f}' if error else '',
            prediction_change=f'{error.change:.3f}' if error else '',
            errors_above_limit=self._distrusted,
            mode=MODES[self._mode],
            last_outcome=self._last_outcome,
            latency_ms=f'{self._status.latency_ms:.1f}',
            margin_ms=f'{self._status.margin_ms:.1f}',
            speed=f'{self._status.speed:.2f}',
            model=self._model_name,
        )


def main() -> None:
    """Run the node."""
    run(WorldModelNode)


if __name__ == '__main__':
    main()

"""What is kept while no frame is asked for."""

import pickle

import numpy as np

from lingbot_va_core.resampling import Resampler

MS = 1_000_000


def test_commands_do_not_pile_up_while_no_frame_is_asked_for():
    resampler = Resampler(['head'], 80 * MS, ['a'], np.array([True]))
    for k in range(2000):
        resampler.commands.push(k * 20 * MS, (0,), np.zeros(1, np.int64), np.array([[float(k)]]))
        resampler.fold(k * 20 * MS)
    assert len(pickle.dumps(resampler.commands)) < 40_000
    assert resampler.commands.at(1998 * 20 * MS).tolist() == [1998.0]

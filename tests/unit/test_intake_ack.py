"""Any ack: it passes on the one answer, from another thread, and bears a sender that has gone."""

import asyncio
import threading

import pytest
from recording_ack import RecordingAck

from heatshield_collector.intake.ack import FutureAck
from heatshield_collector.intake.payload import Accepted, IntakeError, MalformedError


class FutureRig:
    """Settles a future ack on a thread while a task awaits it."""

    def answer(self, settle):
        async def sender():
            ack = FutureAck()
            thread = threading.Thread(target=settle, args=(ack,))
            thread.start()
            try:
                async with asyncio.timeout(30):
                    return await ack.answer()
            except IntakeError as error:
                return error
            finally:
                await asyncio.to_thread(thread.join)

        return asyncio.run(sender())


class RecordingRig:
    """Settles the simplest ack on a thread."""

    def answer(self, settle):
        ack = RecordingAck()
        thread = threading.Thread(target=settle, args=(ack,))
        thread.start()
        thread.join(30)
        (answer,) = ack.answers
        return answer


@pytest.fixture(params=[FutureRig, RecordingRig])
def rig(request):
    return request.param()


def test_what_is_accepted_is_told_to_the_sender(rig):
    accepted = Accepted(2, "left out")
    assert rig.answer(lambda ack: ack.accept(accepted)) is accepted


def test_a_refusal_is_told_to_the_sender_as_it_is(rig):
    error = MalformedError("no spans")
    assert rig.answer(lambda ack: ack.refuse(error)) is error


def test_a_sender_that_was_cancelled_is_no_error():
    async def sender():
        ack = FutureAck()
        waiting = asyncio.ensure_future(ack.answer())
        await asyncio.sleep(0)
        waiting.cancel()
        ack.accept(Accepted())
        await asyncio.sleep(0)
        assert waiting.cancelled()

    asyncio.run(sender())


def test_a_sender_whose_event_loop_is_closed_is_no_error():
    async def sender():
        return FutureAck()

    ack = asyncio.run(sender())
    ack.accept(Accepted())
    ack.refuse(MalformedError("x"))

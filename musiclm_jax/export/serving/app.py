# SPDX-License-Identifier: Apache-2.0
"""The routes: POST /generate, GET /health, GET /metrics.

A request for audio ends in exactly one of: audio; 4xx, by its own fault; 503
with Retry-After, if the queue is full or the server stops; 504, if its time is
up; 500. Audio that has begun and cannot be completed is cut off: its connection
is closed before the end of the body.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import fastapi
import torch
from fastapi import responses
from starlette import requests

from . import audio_file, orders
from . import metrics as metrics_lib
from .scheduler import Model, QueueFull, Scheduler, Stopped, Ticket
from .settings import Settings

_T = TypeVar('_T')

# Nobody reads it; it is counted.
_CLIENT_GONE = 499

# At least that long for sending, however late the audio was made.
_SEND_SECONDS = 30.0


def make_app(model: Model, *, settings: Settings) -> fastapi.FastAPI:
  """A server of `model`, which it calls from one thread."""
  service = _Service(model, settings=settings)
  app = fastapi.FastAPI(title='MusicLM', lifespan=service.lifespan)
  body = {'schema': orders.GenerateBody.model_json_schema()}
  app.post(
    '/generate',
    response_class=responses.Response,
    openapi_extra={
      'requestBody': {'content': {'application/json': body}, 'required': True}
    },
  )(service.generate)
  app.get('/health')(service.health)
  app.get('/metrics', response_class=responses.PlainTextResponse)(
    service.metrics_text
  )
  return app


class _Service:
  """What the routes share."""

  def __init__(self, model: Model, *, settings: Settings):
    self._model = model
    self._settings = settings
    self._metrics = metrics_lib.Metrics()
    self._scheduler: Scheduler | None = None
    self._runner: asyncio.Task[None] | None = None

  @contextlib.asynccontextmanager
  async def lifespan(self, app: fastapi.FastAPI) -> AsyncIterator[None]:
    """Runs the scheduler as long as the server."""
    del app
    self._scheduler = Scheduler(
      self._model, settings=self._settings, metrics=self._metrics
    )
    self._runner = asyncio.create_task(self._scheduler.run())
    yield
    self._runner.cancel()
    with contextlib.suppress(asyncio.CancelledError):
      await self._runner

  async def generate(self, request: fastapi.Request) -> responses.Response:
    """Makes music; answers with one WAV or FLAC, or with several in a ZIP."""
    call = _Call(arrived=_now(), patience=self._settings.timeout_seconds)
    try:
      answer = await self._answer(request, call)
    except orders.Refused as refused:
      answer = _refusal(refused)
    except asyncio.CancelledError:
      # The server stops and cancels its requests; it still sends answers.
      asyncio.current_task().uncancel()
      answer = _refusal(_stopping())
    return _Watched(answer, call=call, on_end=self._end)

  async def health(self) -> responses.JSONResponse:
    """200 while music is made or could be."""
    is_well = not (self._runner.done() or self._scheduler.is_stuck)
    state = {
      'status': 'ok' if is_well else 'the model does not answer',
      'sample_rate_hz': self._model.sample_rate_hz,
      **self._gauges(),
    }
    return responses.JSONResponse(state, 200 if is_well else 503)

  async def metrics_text(self) -> responses.Response:
    """What Prometheus reads."""
    text = self._metrics.text(self._gauges())
    return responses.Response(text, media_type=metrics_lib.CONTENT_TYPE)

  async def _answer(
    self, request: fastapi.Request, call: _Call
  ) -> responses.Response:
    """Audio, all of it or begun; else `orders.Refused`."""
    try:
      async with asyncio.timeout_at(call.deadline):
        content = await _content(request, limit=self._settings.max_body_bytes)
        body = orders.read(content, settings=self._settings)
        call.ticket = self._scheduler.submit(body.order())
        make = self._stream if body.stream else self._whole
        return await _unless_gone(request, make(body, call.ticket))
    except TimeoutError as error:
      raise orders.Refused(504, f'Not made in {call.patience:g} s.') from error
    except QueueFull as full:
      headers = {'Retry-After': str(full.retry_after_seconds)}
      raise orders.Refused(
        503, f'The queue is full; {full}.', headers
      ) from full
    except Stopped as error:
      raise _stopping() from error
    except orders.Refused:
      raise
    except Exception as error:
      logging.exception('A request failed.')
      raise orders.Refused(500, 'The music could not be made.') from error

  async def _whole(
    self, body: orders.GenerateBody, ticket: Ticket
  ) -> responses.Response:
    parts = [part async for part in self._parts(body, ticket)]
    files = {
      f'{seed}.{body.format}': audio_file.whole(
        samples,
        audio_format=body.format,
        sample_rate_hz=self._model.sample_rate_hz,
      )
      for seed, samples in zip(ticket.order.seeds, torch.cat(parts, dim=1))
    }
    content = next(iter(files.values()))
    media_type = audio_file.MEDIA_TYPES[body.format]
    if len(files) > 1:
      content, media_type = audio_file.zipped(files), audio_file.ZIP_MEDIA_TYPE
    return responses.Response(
      content, headers=_headers(ticket), media_type=media_type
    )

  async def _stream(
    self, body: orders.GenerateBody, ticket: Ticket
  ) -> responses.Response:
    """Waits for the first audio, so that until then it can be an error."""
    rate = self._model.sample_rate_hz
    file = audio_file.encoder(
      body.format,
      sample_rate_hz=rate,
      num_samples=body.length(sample_rate_hz=rate),
    )
    parts = self._parts(body, ticket)
    begun = file.add((await anext(parts))[0])

    async def content() -> AsyncIterator[bytes]:
      yield begun
      async for part in parts:
        yield file.add(part[0])
      yield file.end()

    return responses.StreamingResponse(
      content(),
      headers=_headers(ticket),
      media_type=audio_file.MEDIA_TYPES[body.format],
    )

  async def _parts(
    self, body: orders.GenerateBody, ticket: Ticket
  ) -> AsyncIterator[torch.Tensor]:
    """What is made for a ticket; an error unless it is as long as asked."""
    wanted = body.length(sample_rate_hz=self._model.sample_rate_hz)
    made = 0
    async for part in ticket:
      if made == 0:
        self._metrics.first_audio.add(_now() - ticket.arrived)
      made += part.shape[1]
      yield part
    if made != wanted:
      raise ValueError(f'The model made {made} samples instead of {wanted}.')

  def _end(self, call: _Call, status: int) -> None:
    """Frees what a request held, and counts it."""
    if call.ticket is not None:
      self._scheduler.drop(call.ticket)
    self._metrics.requests[status] += 1
    self._metrics.latency.add(_now() - call.arrived)

  def _gauges(self) -> dict[str, int]:
    return {
      'queue_depth': self._scheduler.num_waiting,
      'running_requests': self._scheduler.num_running,
    }


@dataclasses.dataclass(kw_only=True)
class _Call:
  """One POST to /generate.

  Attributes:
    arrived: On the event loop's clock.
    patience: Seconds from then on until it must be answered.
    ticket: Its place in the queue, once it has one.
  """

  arrived: float
  patience: float
  ticket: Ticket | None = None

  @property
  def deadline(self) -> float:
    """On the event loop's clock."""
    return self.arrived + self.patience


class _Watched(responses.Response):
  """A response that ends in time, and tells how it ended."""

  def __init__(
    self,
    response: responses.Response,
    *,
    call: _Call,
    on_end: Callable[[_Call, int], None],
  ):
    super().__init__(status_code=response.status_code)
    self._response = response
    self._call = call
    self._on_end = on_end
    self._is_sent = False

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    async def noting(message: Any) -> None:
      await send(message)
      self._is_sent |= message[
        'type'
      ] == 'http.response.body' and not message.get('more_body', False)

    status = _CLIENT_GONE
    try:
      # What is made at the last moment is still sent.
      deadline = max(self._call.deadline, _now() + _SEND_SECONDS)
      async with asyncio.timeout_at(deadline):
        await self._response(scope, receive, noting)
      if self._is_sent:
        status = self.status_code
    except Exception as error:
      # The body has no end yet, so the connection is closed and the client
      # sees that something is missing.
      logging.error('An answer was cut off: %r', error)
      status = 504 if isinstance(error, TimeoutError) else 500
    finally:
      self._on_end(self._call, status)


async def _content(request: fastapi.Request, *, limit: int) -> bytes:
  """The body, if it is not too long."""
  content = b''
  try:
    async for chunk in request.stream():
      content += chunk
      if len(content) > limit:
        raise orders.Refused(413, f'The body is longer than {limit} bytes.')
  except requests.ClientDisconnect as error:
    raise _gone() from error
  return content


async def _unless_gone(
  request: fastapi.Request, made: Coroutine[Any, Any, _T]
) -> _T:
  """What is made, as long as there is a client to wait for it."""
  making = asyncio.create_task(made)
  watching = asyncio.create_task(request.receive())
  try:
    await asyncio.wait((making, watching), return_when=asyncio.FIRST_COMPLETED)
    if not making.done():
      raise _gone()
    return making.result()
  finally:
    making.cancel()
    watching.cancel()


def _gone() -> orders.Refused:
  return orders.Refused(_CLIENT_GONE, 'The client went away.')


def _stopping() -> orders.Refused:
  return orders.Refused(503, 'The server stops.', {'Retry-After': '1'})


def _refusal(refused: orders.Refused) -> responses.Response:
  return responses.JSONResponse(
    {'error': refused.message}, refused.status, refused.headers
  )


def _headers(ticket: Ticket) -> dict[str, str]:
  return {'X-Seed': str(ticket.order.seeds[0])}


def _now() -> float:
  return asyncio.get_running_loop().time()

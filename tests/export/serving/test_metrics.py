# SPDX-License-Identifier: Apache-2.0
from musiclm_jax.export.serving.metrics import Histogram, Metrics


def test_a_histogram_counts_what_is_at_most_each_bound():
  histogram = Histogram((1, 5))
  for value in (0.5, 1, 3, 5, 7):
    histogram.add(value)
  assert list(histogram.lines('x')) == [
    'x_bucket{le="1"} 2',
    'x_bucket{le="5"} 4',
    'x_bucket{le="+Inf"} 5',
    'x_sum 16.500000',
    'x_count 5',
  ]


def test_the_text_names_every_status_and_the_gauges():
  metrics = Metrics()
  metrics.requests[200] += 3
  metrics.requests[503] += 1
  metrics.audio_seconds = 12.5
  lines = metrics.text({'queue_depth': 7}).splitlines()
  assert 'musiclm_requests_total{status="200"} 3' in lines
  assert 'musiclm_requests_total{status="503"} 1' in lines
  assert 'musiclm_queue_depth 7' in lines
  assert 'musiclm_audio_seconds_total 12.500000' in lines
  # Each name is typed once, before its values.
  typed = [line.split()[2] for line in lines if line.startswith('# TYPE')]
  assert len(typed) == len(set(typed)) == 7

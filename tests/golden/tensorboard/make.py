#!/usr/bin/env python3
"""Writes events.bin with the tensorboard package: the events of tests/report/events_test.cpp, as
TensorBoard itself would write them.

usage: python tests/golden/tensorboard/make.py      (made with tensorboard 2.21.0)
"""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter

counts = [float(i * i % 7) for i in range(32)]
limits = [-1.0 + 3.0 * (i + 1) / 32 for i in range(31)] + [2.0]
shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
events = [
    Event(wall_time=1764266400.25, file_version="brain.Event:2"),
    Event(wall_time=1764266400.25, step=300, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=1764266401.5, step=300, summary=Summary(value=[
        Summary.Value(tag="loss", simple_value=3.25), Summary.Value(tag="lr", simple_value=6e-4)])),
    Event(wall_time=1764266402.0, summary=Summary(value=[Summary.Value(
        tag="sample", tensor=TensorProto(dtype=7, tensor_shape=shape, string_val=["    Wörter\n".encode()]),
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"), data_class=2))])),
    Event(wall_time=1764266403.0, step=5_000_000_000, summary=Summary(value=[Summary.Value(
        tag="weights/wte.weight", histo=HistogramProto(
            min=-1, max=2, num=sum(counts), sum=12.5, sum_squares=40.25, bucket_limit=limits, bucket=counts))])),
]
with open(Path(__file__).parent / "events.bin", "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    writer.close()

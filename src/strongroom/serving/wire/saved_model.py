"""The part of a SavedModel that says what is in it: graph, signatures, tags.

Sources: tensorflow/core/protobuf/{saved_model,meta_graph}.proto, tensorflow/core/framework/{graph,node_def,attr_value,
versions}.proto.
"""

from typing import Final

from strongroom.serving.wire.describe import Description, register
from strongroom.serving.wire.tensorflow import TENSORFLOW_FILE

_MESSAGES: Final = register(
    Description(
        file="strongroom/saved_model.proto",
        package="tensorflow",
        imports=(TENSORFLOW_FILE,),
        messages={
            "AttrValue": {
                "s": "2 bytes in value",
                "i": "3 int64 in value",
                "f": "4 float in value",
                "b": "5 bool in value",
                "type": "6 enum:tensorflow.DataType in value",
                "shape": "7 tensorflow.TensorShapeProto in value",
                "tensor": "8 tensorflow.TensorProto in value",
                "list": "1 AttrValue.ListValue in value",
            },
            "AttrValue.ListValue": {"s": "2 repeated bytes", "i": "3 repeated int64"},
            "NodeDef": {
                "name": "1 string",
                "op": "2 string",
                "input": "3 repeated string",
                "attr": "5 map string AttrValue",
            },
            "VersionDef": {"producer": "1 int32", "min_consumer": "2 int32"},
            "GraphDef": {"node": "1 repeated NodeDef", "versions": "4 VersionDef"},
            "MetaGraphDef": {
                "meta_info_def": "1 MetaGraphDef.MetaInfoDef",
                "graph_def": "2 GraphDef",
                "signature_def": "5 map string tensorflow.SignatureDef",
            },
            "MetaGraphDef.MetaInfoDef": {"meta_graph_version": "1 string", "tags": "4 repeated string"},
            "SavedModel": {"saved_model_schema_version": "1 int64", "meta_graphs": "2 repeated MetaGraphDef"},
        },
    )
)
GraphDef: Final = _MESSAGES["GraphDef"]
SavedModel: Final = _MESSAGES["SavedModel"]

_OUTLINE: Final = register(
    Description(
        file="strongroom/saved_model_outline.proto",
        package="strongroom.outline",
        imports=(TENSORFLOW_FILE,),
        messages={
            "MetaGraphDef": {
                "meta_info_def": "1 MetaInfoDef",
                "graph_def": "2 bytes",
                "signature_def": "5 map string tensorflow.SignatureDef",
            },
            "MetaInfoDef": {"tags": "4 repeated string"},
            "SavedModel": {"meta_graphs": "2 repeated MetaGraphDef"},
        },
    )
)
SavedModelOutline: Final = _OUTLINE["SavedModel"]
"""A SavedModel whose graph stays bytes: its signatures can be read without parsing a hundred megabytes of weights."""

#pragma once
/// Inside the model room: the tensors of a file as the parameters of a GPT-2.

#include <initializer_list>
#include <vector>

#include "formats/formats.h"
#include "model/model.h"

namespace model {

/// The shape that files hold: the vocabulary without its padding.
Shape file_shape(const ParameterInfo& info);

/// Throws Error naming file and tensor unless it has this shape and one of these types.
void check_tensor(const formats::TensorFile& file, const formats::Tensor& tensor,
                  const Shape& expected, std::initializer_list<DType> types);

/// Finds every parameter of the list, in its order; refuses what is missing, unknown or misshapen.
std::vector<const formats::Tensor*> match_parameters(const formats::TensorFile& file,
                                                     const std::vector<ParameterInfo>& list,
                                                     std::initializer_list<DType> types = {
                                                         DType::kF32, DType::kBf16, DType::kF16});

/// The tensor's elements where they can be computed with: bytes of a file may start anywhere, those
/// that begin inside an element's width are copied to `staging`.
ConstView aligned(const formats::Tensor& tensor, std::vector<std::byte>& staging);

/// Sets a model's parameters from what match_parameters() found; a shorter context takes wpe's
/// first rows.
void set_parameters(Gpt2& model, const std::vector<const formats::Tensor*>& tensors);

}  // namespace model

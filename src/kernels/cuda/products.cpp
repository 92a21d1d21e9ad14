// A product as an operation of a queue.

#include "kernels/cuda/products.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "kernels/cuda/queue.h"

namespace kernels::cuda {
namespace {

class Product final : public gpu::Operation {
 public:
  Product(Products& products, const ProductShape& shape, const ProductOperands& at)
      : products_(&products), shape_(shape), at_(at) {}
  void run(gpu::Queue& /*queue*/) const override { products_->give(shape_, at_); }
  bool same(const Operation& other) const override {
    const auto* product = dynamic_cast<const Product*>(&other);
    return product != nullptr && product->products_ == products_ && product->shape_ == shape_ &&
           product->at_ == at_;
  }
  std::unique_ptr<Operation> kept() const override { return std::make_unique<Product>(*this); }

 private:
  Products* products_;
  ProductShape shape_;
  ProductOperands at_;
};

/// "rows columns depth left_transposed right_transposed f32_out accumulate epilogue f32 tf32 fused
/// a0 ... a7", the algorithm's words in hexadecimal.
std::string line_of(const ProductChoice& choice) {
  const ProductShape& s = choice.shape;
  std::ostringstream line;
  line << s.rows << ' ' << s.columns << ' ' << s.depth << ' ' << s.left_transposed << ' '
       << s.right_transposed << ' ' << s.f32_out << ' ' << s.accumulate << ' '
       << static_cast<int>(s.epilogue) << ' ' << s.f32 << ' ' << s.tf32 << ' ' << choice.fused
       << std::hex;
  for (const std::uint64_t word : choice.algorithm) line << ' ' << word;
  return line.str();
}

bool read_line(const std::string& text, ProductChoice& choice) {
  ProductShape& s = choice.shape;
  int epilogue = 0;
  std::istringstream line(text);
  line >> s.rows >> s.columns >> s.depth >> s.left_transposed >> s.right_transposed >> s.f32_out >>
      s.accumulate >> epilogue >> s.f32 >> s.tf32 >> choice.fused >> std::hex;
  for (std::uint64_t& word : choice.algorithm) line >> word;
  if (!line || epilogue < 0 || epilogue > static_cast<int>(ProductEpilogue::kBiasGradient)) {
    return false;
  }
  s.epilogue = static_cast<ProductEpilogue>(epilogue);
  return true;
}

}  // namespace

std::string Products::text() const {
  std::string text = library() + "\n";
  const std::vector<ProductChoice> made = choices();
  for (const ProductChoice& choice : made) text += line_of(choice) + "\n";
  for (const ProductChoice& choice : given_) {  // those whose shape has not come yet
    const auto is_same = [&](const ProductChoice& other) { return other.shape == choice.shape; };
    if (std::ranges::none_of(made, is_same)) text += line_of(choice) + "\n";
  }
  return text;
}

std::string Products::use(const std::string& text) {
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  if (line != library()) return "they were made with " + line + ", this is " + library();
  std::vector<ProductChoice> read;
  while (std::getline(lines, line)) {
    if (!read_line(line, read.emplace_back())) return "a line of them cannot be read: " + line;
  }
  given_ = std::move(read);
  return {};
}

void Products::multiply(const ProductShape& shape, void* out, const void* left, const void* right,
                        void* bias, void* pre) {
  if (shape.accumulate && !shape.stores_f32()) gpu::fail("product: only f32 results accumulate");
  const ProductOperands at{out, left, right, bias, pre};
  if (stream_ == nullptr) return give(shape, at);
  stream_->push(Product(*this, shape, at));
}

}  // namespace kernels::cuda

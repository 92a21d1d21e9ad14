// Products through cuBLASLt. It speaks of column-major matrices: a row-major out = left right is
// there out^T = right^T left^T, so that "A" is our right and "B" our left operand, and a bias along
// its rows is ours along columns, and the sums of "A" over the depth (BGRADA) are those of our
// right operand's rows.

#include <cublasLt.h>

#include <algorithm>
#include <cstring>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/products.h"

namespace kernels::cuda {
namespace {

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  gpu::fail(std::string(what) + ": " + cublasLtGetStatusString(status));
}

constexpr int kProposals = 8;
constexpr int kTimedRuns = 3;
constexpr std::size_t kTimedShapes = 64;   // more than a training run has
constexpr std::size_t kOtherShapes = 256;  // kept beside them
constexpr std::uint32_t kAlignment = 16;   // of every operand: rows are multiples of 8 long

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(ProductChoice::algorithm));

bool adds_bias(ProductEpilogue epilogue) {
  return epilogue == ProductEpilogue::kBias || epilogue == ProductEpilogue::kBiasGelu;
}
/// Whether the library may do an epilogue: f32 is what others are compared with, and the library's
/// GELU and sums there need not be exact to f32.
bool may_fuse(const ProductShape& s) {
  return !s.f32 || s.epilogue == ProductEpilogue::kNone || s.epilogue == ProductEpilogue::kBias;
}
/// What the product keeps of an epilogue where the rest is a kernel after it.
ProductEpilogue kept_of(ProductEpilogue epilogue) {
  return adds_bias(epilogue) ? ProductEpilogue::kBias : ProductEpilogue::kNone;
}

/// Descriptors of one shape, and the algorithm that won.
struct Plan {
  ProductChoice choice;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm{};

  /// The product's own.
  ProductEpilogue epilogue() const {
    return choice.fused ? choice.shape.epilogue : kept_of(choice.shape.epilogue);
  }

  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() { clear(); }
  void clear() {
    if (product != nullptr) cublasLtMatmulDescDestroy(product);
    for (cublasLtMatrixLayout_t* layout : {&a, &b, &c}) {
      if (*layout != nullptr) cublasLtMatrixLayoutDestroy(*layout);
      *layout = nullptr;
    }
    product = nullptr;
  }
};

template <class T>
void set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check(cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof value),
        "cublasLtMatmulDescSetAttribute");
}

cublasLtMatrixLayout_t layout_of(cudaDataType_t type, int stored_rows, int stored_columns) {
  cublasLtMatrixLayout_t layout = nullptr;
  check(cublasLtMatrixLayoutCreate(&layout, type, static_cast<std::uint64_t>(stored_columns),
                                   static_cast<std::uint64_t>(stored_rows), stored_columns),
        "cublasLtMatrixLayoutCreate");
  return layout;
}

bool points_to_bias(ProductEpilogue epilogue) {
  return adds_bias(epilogue) || epilogue == ProductEpilogue::kBiasGradient;
}
bool has_pre(ProductEpilogue epilogue) {
  return epilogue == ProductEpilogue::kBiasGelu || epilogue == ProductEpilogue::kGeluDerivative;
}

cublasLtEpilogue_t epilogue_of(ProductEpilogue epilogue) {
  switch (epilogue) {
    case ProductEpilogue::kBias:
      return CUBLASLT_EPILOGUE_BIAS;
    case ProductEpilogue::kBiasGelu:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case ProductEpilogue::kGeluDerivative:
      return CUBLASLT_EPILOGUE_DGELU;
    case ProductEpilogue::kBiasGradient:
      return CUBLASLT_EPILOGUE_BGRADA;
    case ProductEpilogue::kNone:
      break;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

/// Of choice's shape, with all of its epilogue or what the product keeps of it.
void describe(Plan& plan) {
  const ProductShape& s = plan.choice.shape;
  const ProductEpilogue epilogue = plan.epilogue();
  plan.clear();
  const bool rounds = s.f32 && s.tf32;
  check(cublasLtMatmulDescCreate(
            &plan.product, rounds ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  const cublasOperation_t plain = CUBLAS_OP_N;
  const cublasOperation_t transposed = CUBLAS_OP_T;
  set(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, s.right_transposed ? transposed : plain);
  set(plan.product, CUBLASLT_MATMUL_DESC_TRANSB, s.left_transposed ? transposed : plain);
  set(plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(epilogue));
  if (has_pre(epilogue)) {
    set(plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t{s.columns});
  }
  if (epilogue == ProductEpilogue::kBiasGradient) {
    set(plan.product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
  }
  const cudaDataType_t type = s.f32 ? CUDA_R_32F : CUDA_R_16BF;
  plan.a = s.right_transposed ? layout_of(type, s.columns, s.depth)
                              : layout_of(type, s.depth, s.columns);
  plan.b = s.left_transposed ? layout_of(type, s.depth, s.rows) : layout_of(type, s.rows, s.depth);
  plan.c = layout_of(s.stores_f32() ? CUDA_R_32F : CUDA_R_16BF, s.rows, s.columns);
}

using Operands = ProductOperands;

void point(const Plan& plan, const Operands& at) {
  const ProductEpilogue epilogue = plan.epilogue();
  if (points_to_bias(epilogue)) {
    set(plan.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, at.bias);
  }
  if (has_pre(epilogue)) {
    set(plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, at.pre);
  }
}

/// The library's proposals. Not a vector: nvcc 13.0 breaks on one of this unnamed struct.
struct Candidates {
  cublasLtMatmulHeuristicResult_t results[kProposals];
  int count = 0;
};

/// Device memory for the time of a block.
struct Scratch {
  explicit Scratch(std::size_t bytes) : data(gpu::allocate_bytes(bytes)) {}
  ~Scratch() { gpu::release(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* data;
};

/// What an epilogue left for a kernel after the product, whose result is in `out` or, of kBiasGelu,
/// in `pre`.
template <class A>
void finish(const ProductShape& shape, const Operands& at, Stream stream) {
  const std::size_t count =
      static_cast<std::size_t>(shape.rows) * static_cast<std::size_t>(shape.columns);
  auto* values = static_cast<A*>(at.out);
  const auto* inputs = static_cast<const A*>(at.pre);
  switch (shape.epilogue) {
    case ProductEpilogue::kBiasGelu:
      return gelu_forward(values, inputs, count, stream);
    case ProductEpilogue::kGeluDerivative:
      return gelu_backward(values, static_cast<const A*>(values), inputs, count, stream);
    case ProductEpilogue::kBiasGradient: {
      auto* sums = static_cast<float*>(at.bias);
      gpu::fill_bytes(sums, 0, static_cast<std::size_t>(shape.columns) * sizeof(float), stream);
      return column_sums(sums, static_cast<const A*>(at.right), shape.depth, shape.columns,
                         static_cast<float*>(at.pre), stream);
    }
    case ProductEpilogue::kBias:
    case ProductEpilogue::kNone:
      return;
  }
}

}  // namespace

struct Products::State {
  explicit State(Stream on) : stream(on), workspace(static_cast<std::size_t>(kWorkspaceBytes)) {
    check(cublasLtCreate(&handle), "cublasLtCreate");
    gpu::check(cudaEventCreate(&begin), "cudaEventCreate");
    gpu::check(cudaEventCreate(&end), "cudaEventCreate");
  }
  ~State() {
    plans.clear();
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cublasLtDestroy(handle);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  /// Queues the product, and what its epilogue left.
  cublasStatus_t run(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const Operands& at) {
    const ProductShape& shape = plan.choice.shape;
    const float one = 1;
    const float beta = shape.accumulate ? 1.0F : 0.0F;
    const bool is_last = plan.choice.fused || shape.epilogue != ProductEpilogue::kBiasGelu;
    void* const out = is_last ? at.out : at.pre;  // GELU's input, then GELU of it
    const cublasStatus_t status =
        cublasLtMatmul(handle, plan.product, &one, at.right, plan.a, at.left, plan.b, &beta, out,
                       plan.c, out, plan.c, &algorithm, workspace.data,
                       static_cast<std::size_t>(kWorkspaceBytes), handle_of_stream());
    if (status != CUBLAS_STATUS_SUCCESS || plan.choice.fused) return status;
    shape.f32 ? finish<float>(shape, at, stream) : finish<gpu::Bf16>(shape, at, stream);
    return status;
  }
  CUstream_st* handle_of_stream() const { return stream == nullptr ? nullptr : stream->handle(); }
  Candidates candidates(const Plan& plan) {
    cublasLtMatmulPreference_t preference = nullptr;
    check(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    const auto most = static_cast<std::size_t>(kWorkspaceBytes);
    const auto want = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value);
    };
    want(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, most);
    // Partial sums in f32, also of results in bf16.
    want(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    for (const auto alignment :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      want(alignment, kAlignment);
    }
    Candidates found{};
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, plan.product, plan.a, plan.b, plan.c, plan.c,
                                       preference, kProposals, found.results, &found.count);
    cublasLtMatmulPreferenceDestroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS) found.count = 0;
    return found;
  }
  /// Microseconds of one run, or a negative number where the algorithm does not run.
  double time(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const Operands& at) {
    if (run(plan, algorithm, at) != CUBLAS_STATUS_SUCCESS) return -1;
    gpu::check(cudaEventRecord(begin, handle_of_stream()), "cudaEventRecord");
    for (int i = 0; i < kTimedRuns; ++i) run(plan, algorithm, at);
    gpu::check(cudaEventRecord(end, handle_of_stream()), "cudaEventRecord");
    gpu::check(cudaEventSynchronize(end), "product");
    float milliseconds = 0;
    gpu::check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
    return static_cast<double>(milliseconds) * 1e3 / kTimedRuns;
  }
  std::unique_ptr<Plan> described(const ProductShape& shape, bool fused, const Operands& at) {
    auto plan = std::make_unique<Plan>();
    plan->choice.shape = shape;
    plan->choice.fused = fused;
    describe(*plan);
    point(*plan, at);
    return plan;
  }
  static void keep(Plan& plan, const cublasLtMatmulAlgo_t& algorithm) {
    plan.algorithm = algorithm;
    std::memcpy(plan.choice.algorithm.data(), &algorithm, sizeof algorithm);
  }
  /// A plan with the fastest of the library's candidates; null where it has none.
  std::unique_ptr<Plan> choose(const ProductShape& s, bool fused, const Operands& at) {
    auto plan = described(s, fused, at);
    const std::size_t bytes = static_cast<std::size_t>(s.rows) *
                              static_cast<std::size_t>(s.columns) * (s.stores_f32() ? 4 : 2);
    const Scratch copy(s.accumulate ? bytes : 0);
    Operands to = at;
    if (s.accumulate) {
      gpu::give_fill(copy.data, 0, bytes, handle_of_stream());
      to.out = copy.data;
    }
    double best = -1;
    const Candidates found = candidates(*plan);
    for (int i = 0; i < found.count; ++i) {
      const double microseconds = time(*plan, found.results[i].algo, to);
      if (microseconds < 0) continue;
      ++plan->choice.tried;
      if (best >= 0 && microseconds >= best) continue;
      best = microseconds;
      keep(*plan, found.results[i].algo);
    }
    if (best < 0) return nullptr;
    plan->choice.microseconds = best;
    return plan;
  }
  /// A plan with what the library proposes first; null where that is nothing.
  std::unique_ptr<Plan> propose(const ProductShape& s, bool fused, const Operands& at) {
    auto plan = described(s, fused, at);
    const Candidates found = candidates(*plan);
    if (found.count == 0) return nullptr;
    keep(*plan, found.results[0].algo);
    return plan;
  }
  /// The faster of the two: the epilogue in the product, or a kernel after it.
  std::unique_ptr<Plan> choose(const ProductShape& shape, const Operands& at) {
    const bool may_part = kept_of(shape.epilogue) != shape.epilogue;
    std::unique_ptr<Plan> plan;
    if (timed < kTimedShapes) {
      if (may_fuse(shape)) plan = choose(shape, /*fused=*/true, at);
      std::unique_ptr<Plan> apart;
      if (may_part) apart = choose(shape, /*fused=*/false, at);
      if (!plan || (apart && apart->choice.microseconds < plan->choice.microseconds)) {
        plan = std::move(apart);
      }
      ++timed;
    } else {
      if (may_fuse(shape)) plan = propose(shape, /*fused=*/true, at);
      if (!plan && may_part) plan = propose(shape, /*fused=*/false, at);
    }
    if (!plan) {
      gpu::fail("product: cuBLASLt has no algorithm for " + std::to_string(shape.rows) + " x " +
                std::to_string(shape.columns) + " x " + std::to_string(shape.depth));
    }
    return plan;
  }
  /// The plan that was chosen earlier; null where the library cannot do it.
  std::unique_ptr<Plan> take(const ProductChoice& choice, const Operands& at) {
    auto plan = described(choice.shape, choice.fused, at);
    plan->choice = choice;
    std::memcpy(&plan->algorithm, choice.algorithm.data(), sizeof plan->algorithm);
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status = cublasLtMatmulAlgoCheck(
        handle, plan->product, plan->a, plan->b, plan->c, plan->c, &plan->algorithm, &result);
    if (status != CUBLAS_STATUS_SUCCESS ||
        result.workspaceSize > static_cast<std::size_t>(kWorkspaceBytes)) {
      return nullptr;
    }
    return plan;
  }
  Plan& plan_of(const ProductShape& shape, const Operands& at,
                const std::vector<ProductChoice>& given) {
    for (const auto& plan : plans) {
      if (plan->choice.shape == shape) return *plan;
    }
    std::unique_ptr<Plan> plan;
    for (const ProductChoice& choice : given) {
      if (choice.shape == shape) plan = take(choice, at);
    }
    if (plan) {
      ++timed;
    } else {
      plan = choose(shape, at);
    }
    if (plans.size() == kTimedShapes + kOtherShapes) {  // a proposal costs little to ask for again
      plans.erase(plans.begin() + kTimedShapes);
    }
    plans.push_back(std::move(plan));
    return *plans.back();
  }

  Stream stream;
  Scratch workspace;
  cublasLtHandle_t handle = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;
  std::vector<std::unique_ptr<Plan>> plans;  // those that were timed come first
  std::size_t timed = 0;
};

Products::Products(Stream stream) : state_(std::make_unique<State>(stream)), stream_(stream) {}
Products::~Products() = default;

void Products::give(const ProductShape& shape, ProductOperands at) {
  const Plan& plan = state_->plan_of(shape, at, given_);
  point(plan, at);
  check(state_->run(plan, plan.algorithm, at), "cublasLtMatmul");
}

std::string Products::library() const {
  int device = 0;
  cudaDeviceProp properties{};
  gpu::check(cudaGetDevice(&device), "cudaGetDevice");
  gpu::check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return "cuBLASLt " + std::to_string(cublasLtGetVersion()) + " on " + properties.name;
}

std::vector<ProductChoice> Products::choices() const {
  std::vector<ProductChoice> all;
  for (std::size_t i = 0; i < std::min(state_->plans.size(), kTimedShapes); ++i) {
    all.push_back(state_->plans[i]->choice);
  }
  return all;
}

}  // namespace kernels::cuda

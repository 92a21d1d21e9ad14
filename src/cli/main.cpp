// The program: a table of subcommands, the only catch, the only exit code.

#include <cstdio>
#include <exception>
#include <new>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/version.h"

namespace {

constexpr int kError = 1;
constexpr int kUsage = 2;

int run(int argc, char** argv) {
  CLI::App app("GPT-2 from scratch: tokenise, prepare, train, evaluate and generate.", "gpt2");
  app.set_version_flag("--version", std::string("gpt2 ") + GPT2_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);

  cli::add_encode(app);
  cli::add_decode(app);
  cli::add_prepare(app);
  cli::add_download(app);
  cli::add_verify(app);
  cli::add_train_tokenizer(app);
  cli::add_train(app);
  cli::add_generate(app);
  cli::add_score(app);
  cli::add_eval(app);
  cli::add_quantize(app);
  cli::add_info(app);
  cli::add_report(app);
  cli::add_bench(app);

  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    const auto commands = app.get_subcommands();
    const std::string help =
        commands.empty() ? "gpt2 --help" : "gpt2 " + commands.front()->get_name() + " --help";
    // CLI11 would only say that a subcommand is missing.
    const bool unknown = commands.empty() && argc > 1 && argv[1][0] != '-';
    const std::string what =
        unknown ? fmt::format("unknown subcommand '{}'", argv[1]) : error.what();
    fmt::print(stderr, "gpt2: error: {}; see '{}'\n", what, help);
    return kUsage;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const cli::ExitCode& exit) {
    return exit.code;
  } catch (const base::Error& error) {
    fmt::print(stderr, "gpt2: error: {}\n", error.what());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "gpt2: error: out of memory; choose a smaller model, batch or input\n");
  } catch (const std::exception& error) {
    fmt::print(stderr, "gpt2: error: {}\n", error.what());
  }
  return kError;
}

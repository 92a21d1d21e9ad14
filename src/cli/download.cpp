// gpt2 download: a model of the Hugging Face hub -> a folder.

#include <filesystem>
#include <memory>
#include <string>

#include "cli/cli.h"
#include "cli/hub_fetch.h"

namespace cli {
namespace {

struct DownloadOptions {
  CommonOptions common;
  std::string repository;
  std::string revision{hub::kDefaultRevision};
  std::string to;
};

void run_download(const DownloadOptions& options) {
  const hub::Fetched fetched =
      fetch(hub::parse_model(options.repository, options.revision), options.common);
  if (!options.to.empty()) hub::copy_to(fetched, options.to);
  write_output((options.to.empty() ? fetched.folder.string() : options.to) + "\n");
}

}  // namespace

void add_download(CLI::App& app) {
  CLI::App& command = *app.add_subcommand(
      "download", "Get a model from the Hugging Face hub; prints the folder it is in");
  const auto options = std::make_shared<DownloadOptions>();
  command
      .add_option("MODEL", options->repository,
                  "OWNER/NAME; its config, safetensors and tokenizer files are fetched into the "
                  "cache that huggingface_hub uses too (HF_HOME, or ~/.cache/huggingface)")
      ->required();
  command.add_option("--revision", options->revision, "Branch, tag or commit")
      ->capture_default_str();
  command.add_option("--to", options->to, "Copy the files into this folder as well");
  add_common(command, options->common);
  command.footer(
      "Environment: HF_TOKEN (or the file HF_HOME/token) for what is gated or private, HF_HOME, "
      "HF_ENDPOINT, HF_HUB_OFFLINE=1. An interrupted download goes on where it stopped.");
  command.callback([options] { run_download(*options); });
}

}  // namespace cli

#pragma once
/// Preparation killed at random moments and taken up again.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/rng.h"
#include "data/parquet_rows.h"

namespace prepare_kill {

namespace fs = std::filesystem;

/// Starts the program without a shell, so that its id is known.
inline pid_t start(const std::vector<std::string>& words) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  std::vector<char*> arguments;
  std::string binary = GPT2_BINARY;
  arguments.push_back(binary.data());
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execv(GPT2_BINARY, arguments.data());
  ::_exit(127);
}

/// Without taking its status.
inline bool has_ended(pid_t child) {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
         info.si_pid != 0;
}

inline std::map<std::string, std::string> files_in(const base::Path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files[entry.path().filename().string()] = base::read_file(entry.path());
  }
  return files;
}

/// Text, lines (some broken, some twice), a text that comes again and rows, about `bytes` in all.
inline void write_inputs(const base::Path& folder, std::size_t bytes) {
  const auto words = [](std::uint64_t seed, std::size_t count) {
    std::string text;
    for (std::uint64_t i = 0; i < count; ++i) {
      text += "word" + std::to_string(base::random_below(5000, 1, seed, i)) +
              (i % 9 == 8 ? ".\n" : " ");
    }
    return text;
  };
  fs::create_directories(folder / "in");
  base::write_file(folder / "in/a.txt", words(1, bytes / 32));
  std::string lines;
  for (std::uint64_t i = 0; lines.size() < bytes / 2; ++i) {
    std::string text = words(i % 1000, 10 + i % 300);
    for (char& c : text) c = c == '\n' ? ' ' : c;
    lines += i % 250 == 7 ? "{\"text\": 7}\n" : "{\"n\": 1, \"text\": \"" + text + "\"}\n";
  }
  base::write_file(folder / "in/b.jsonl", lines);
  base::write_file(folder / "in/c.txt", words(1, bytes / 32));
  const auto rows = data_test::make_parquet_rows(40, [&](std::int64_t row) {
    return words(static_cast<std::uint64_t>(row % 700), row % 800 == 99 ? 200'000 : row % 90);
  });
  base::write_file(folder / "in/d.parquet", rows.file);
}

/// Instruction data, some of it broken or twice, about `bytes` in all.
inline void write_instructions(const base::Path& folder, std::size_t bytes) {
  std::string lines;
  for (std::uint64_t i = 0; lines.size() < bytes; ++i) {
    std::string answer;
    for (std::uint64_t word = 0; word < 5 + i % 200; ++word) {
      answer += " word" + std::to_string(base::random_below(5000, 1, i % 20000, word));
    }
    lines += i % 250 == 7 ? "{\"prompt\": \"alone\"}\n"
             : i % 2 == 0 ? "{\"prompt\": \"Question " + std::to_string(i % 20000) +
                                "\", \"completion\": \"" + answer + "\"}\n"
                          : "{\"messages\": [{\"role\": \"user\", \"content\": \"Tell\"}, "
                            "{\"role\": \"assistant\", \"content\": \"" +
                                answer + "\"}]}\n";
  }
  fs::create_directories(folder / "in");
  base::write_file(folder / "in/a.jsonl", lines);
}

/// Kills preparation (with the words `more`) `kills` times with another number of threads each
/// time: at random moments of as long as a whole run takes here, and every second time soon after
/// there is something to go on from. What is there in the end is what an undisturbed run writes. A
/// run that was finished is thrown away, so that every kill has something to hit.
inline void kill_and_compare(const base::Path& folder, int kills,
                             const std::vector<std::string>& more = {}) {
  using std::chrono::microseconds;
  constexpr microseconds kLongest = std::chrono::seconds(60), kLook{200};
  int status = 0;
  for (const std::string format : {"llmc", "nanogpt"}) {
    const auto words = [&](const std::string& out, std::uint64_t threads) {
      std::vector<std::string> all = {"prepare",        (folder / "in").string(),
                                      "--out",          (folder / out).string(),
                                      "--shard-tokens", "30000",
                                      "--val-fraction", "0.2",
                                      "--dedup",        "exact",
                                      "--max-rejected", "20%",
                                      "--format",       format,
                                      "--threads",      std::to_string(threads),
                                      "--quiet"};
      all.insert(all.end(), more.begin(), more.end());
      return all;
    };
    fs::remove_all(folder / "whole");
    fs::remove_all(folder / "out");
    const auto begun = std::chrono::steady_clock::now();
    ASSERT_TRUE(::waitpid(start(words("whole", 2)), &status, 0) > 0 && status == 0);
    const auto whole =
        std::chrono::duration_cast<microseconds>(std::chrono::steady_clock::now() - begun);
    const auto expected = files_in(folder / "whole");
    int killed = 0;
    int resumed = 0;
    for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(kills) / 2; ++i) {
      if (fs::exists(folder / "out/manifest.json") && !fs::exists(folder / "out/prepare.json")) {
        ASSERT_TRUE(files_in(folder / "out") == expected) << "kill " << i;
        fs::remove_all(folder / "out");
      }
      const base::Path state = folder / "out/prepare.state.json";
      if (fs::exists(state)) ++resumed;
      const pid_t child = start(words("out", 1 + i % 3));
      microseconds most = whole;
      if (i % 2 == 0) {
        for (microseconds waited{0}; !fs::exists(state) && !has_ended(child) && waited < kLongest;
             waited += kLook) {
          std::this_thread::sleep_for(kLook);
        }
        most /= 10;
      }
      std::this_thread::sleep_for(
          microseconds(base::random_below(static_cast<std::uint64_t>(most.count()) + 1, 1, 2, i)));
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      if (WIFSIGNALED(status)) ++killed;
      if (!fs::exists(folder / "out")) continue;
      for (const auto& entry : fs::directory_iterator(folder / "out")) {
        const std::string name = entry.path().filename().string();
        // What has a shard's or a mask's name is complete.
        if (name.ends_with(".bin") || name.ends_with(".mask")) {
          ASSERT_TRUE(base::read_file(entry.path()) == expected.at(name)) << name << " kill " << i;
        }
      }
    }
    EXPECT_GT(killed, 0);
    EXPECT_GT(resumed, 0);
    ASSERT_TRUE(::waitpid(start(words("out", 2)), &status, 0) > 0 && status == 0);
    EXPECT_TRUE(files_in(folder / "out") == expected);
  }
}

}  // namespace prepare_kill

// The choice of what to compute with, and the file that keeps it.

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "measure/measure.h"
#include "temporary_folder.h"

namespace measure {
namespace {

/// A variable of the environment for the length of a test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    if (value == nullptr) {
      ::unsetenv(name);
    } else {
      ::setenv(name, value, 1);
    }
  }
  ~Variable() {
    if (before_) {
      ::setenv(name_, before_->c_str(), 1);
    } else {
      ::unsetenv(name_);
    }
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

class ChooseCpu : public testing::Test {
 protected:
  void SetUp() override {
    if (kernels::cpu_choices(DType::kBf16).size() < 2) {
      GTEST_SKIP() << "this processor leaves nothing to choose";
    }
  }
  base::Path folder() const { return folder_ / "gpt2"; }
  base::Path file() const {
    std::vector<base::Path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder())) {
      files.push_back(entry.path());
    }
    EXPECT_EQ(files.size(), 1U);
    return files.empty() ? base::Path() : files.front();
  }
  CpuChoices choose() const { return choose_cpu(DType::kBf16, folder()); }

 private:
  TemporaryFolder folder_;
  Variable unforced_{"GPT2_CPU_ISA", nullptr};
};

TEST_F(ChooseCpu, MeasuresOnceAndKeepsTheResult) {
  const CpuChoices first = choose();
  EXPECT_EQ(first.origin, Origin::kMeasured);
  ASSERT_EQ(first.rates.size(), first.choices.size());
  double best = 0;
  double chosen = 0;
  for (std::size_t i = 0; i < first.rates.size(); ++i) {
    EXPECT_GT(first.rates[i], 0);
    best = std::max(best, first.rates[i]);
    if (first.choices[i] == first.choice) chosen = first.rates[i];
  }
  EXPECT_GE(chosen, best / 1.11);  // nearly the fastest: the first of those that tie

  const CpuChoices second = choose();
  EXPECT_EQ(second.origin, Origin::kCached);
  EXPECT_EQ(second.choice, first.choice);
  EXPECT_TRUE(second.rates.empty());
}

TEST_F(ChooseCpu, TakesWhatTheFileSays) {
  const CpuChoices measured = choose();
  const kernels::CpuChoice other = measured.choices.back();
  std::string text = base::read_file(file());
  const auto replace = [&](const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << text;
    text.replace(at, from.size(), to);
  };
  replace("\"isa\": \"" + measured.choice.isa, "\"isa\": \"" + other.isa);
  replace("\"products\": \"" + measured.choice.products, "\"products\": \"" + other.products);
  base::write_file(file(), text);
  EXPECT_EQ(choose().choice, other);
  EXPECT_EQ(choose().origin, Origin::kCached);
}

TEST_F(ChooseCpu, AFileThatIsBrokenOrAnothersCountsAsNone) {
  choose();
  const base::Path path = file();
  const std::string good = base::read_file(path);
  std::string foreign = good;
  foreign.replace(foreign.find("model name"), 10, "Model Name");
  std::string unknown = good;
  const std::size_t isa = unknown.find("\"isa\": \"") + 8;
  unknown.replace(isa, unknown.find('"', isa) - isa, "sve2");
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[1]"), std::string("{\"machine\": 3}"),
        good.substr(0, good.size() / 2), foreign, unknown}) {
    base::write_file(path, text);
    EXPECT_EQ(choose().origin, Origin::kMeasured) << text;
    EXPECT_EQ(choose().origin, Origin::kCached) << "it was not renewed: " << text;
  }
}

TEST_F(ChooseCpu, DoesWithoutAFolderThatCannotBeWritten) {
  EXPECT_EQ(choose_cpu(DType::kBf16, std::nullopt).origin, Origin::kMeasured);
  base::create_folders(folder().parent_path());
  base::write_file(folder(), "a file where the folder should be");
  EXPECT_EQ(choose().origin, Origin::kMeasured);
  EXPECT_EQ(choose().origin, Origin::kMeasured);
}

TEST_F(ChooseCpu, AForcedInstructionSetIsNotMeasured) {
  const Variable forced("GPT2_CPU_ISA", "generic");
  const CpuChoices chosen = choose();
  EXPECT_EQ(chosen.origin, Origin::kForced);
  EXPECT_EQ(chosen.choice.isa, "generic");
  EXPECT_FALSE(std::filesystem::exists(folder()));
}

TEST_F(ChooseCpu, NeedsNoMeasurementForF32) {
  const CpuChoices chosen = choose_cpu(DType::kF32, folder());
  EXPECT_EQ(chosen.origin, Origin::kOnly);
  EXPECT_EQ(chosen.choice, kernels::cpu_choices(DType::kF32).front());
  EXPECT_FALSE(std::filesystem::exists(folder()));
}

TEST(CacheFolder, IsTheUsersOwn) {
  const Variable home("HOME", "/home/someone");
  {
    const Variable cache("XDG_CACHE_HOME", "/var/cache/mine");
    EXPECT_EQ(cache_folder(), base::Path("/var/cache/mine/gpt2"));
  }
  {
    const Variable cache("XDG_CACHE_HOME", "relative");
    EXPECT_EQ(cache_folder(), base::Path("/home/someone/.cache/gpt2"));
  }
  const Variable cache("XDG_CACHE_HOME", nullptr);
  EXPECT_EQ(cache_folder(), base::Path("/home/someone/.cache/gpt2"));
  const Variable none("HOME", nullptr);
  EXPECT_EQ(cache_folder(), std::nullopt);
}

}  // namespace
}  // namespace measure

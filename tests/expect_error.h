#pragma once
/// Tests of messages: what a function says when it refuses.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "base/error.h"

/// Expects `function()` to throw base::Error with exactly this one-line message.
template <class F>
void expect_error(std::string_view message, F&& function) {
  try {
    function();
    ADD_FAILURE() << "no error; expected: " << message;
  } catch (const base::Error& error) {
    EXPECT_EQ(std::string_view(error.what()), message);
  }
}

/// The message of the base::Error that `function()` throws; a failure and "" when it throws none.
template <class F>
std::string error_of(F&& function) {
  try {
    function();
  } catch (const base::Error& error) {
    EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos)
        << "more than one line: " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

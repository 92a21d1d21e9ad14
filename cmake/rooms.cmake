# gpt2_room(NAME SOURCES file... [LINKS target...] [HAS_LOOPS])
# One static library a room, called room_NAME. Files are listed, not globbed. HAS_LOOPS: the debug
# build optimises it as well, and its checks are in the code, since its tests spend their time there;
# without, it is compiled in half of the time.
function(gpt2_room name)
  cmake_parse_arguments(ROOM "HAS_LOOPS" "" "SOURCES;LINKS" ${ARGN})
  if(NOT ROOM_SOURCES)  # a room whose door is all there is
    add_library(room_${name} INTERFACE)
    target_link_libraries(room_${name} INTERFACE gpt2_options fmt::fmt ${ROOM_LINKS})
    return()
  endif()
  add_library(room_${name} STATIC ${ROOM_SOURCES})
  target_link_libraries(room_${name} PUBLIC gpt2_options fmt::fmt ${ROOM_LINKS})
  if(NOT ROOM_HAS_LOOPS)
    target_compile_options(room_${name} PRIVATE $<$<CONFIG:Debug>:-O0>)
    set_target_properties(room_${name} PROPERTIES GPT2_CHECKS_BY_CALLS ON)
  endif()
endfunction()

# gpt2_test(NAME LABEL fast|medium|slow|gpu SOURCES file... LINKS target...
#           [PREFIX text] [ENVIRONMENT VAR=value] [TIMEOUT seconds] [NEEDS_BINARY])
# One GoogleTest executable; each of its cases becomes one ctest test. With the sanitizers, whose
# start takes longer than most cases, the executable is one ctest test. A second call with the same
# name registers the same cases once more (another PREFIX and ENVIRONMENT). NEEDS_BINARY: the cases
# run the gpt2 program itself, whose path is the macro GPT2_BINARY. The target fast_tests builds what
# the label fast needs. Where a folder sets GPT2_TESTS_HAVE_LOOPS its tests are optimised under the
# sanitizers as well.
add_custom_target(fast_tests)
function(gpt2_test name)
  cmake_parse_arguments(TEST "NEEDS_BINARY" "LABEL;PREFIX;TIMEOUT" "SOURCES;LINKS;ENVIRONMENT" ${ARGN})
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 120)
  endif()
  if(NOT TARGET ${name})
    add_executable(${name} ${TEST_SOURCES})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
    target_compile_definitions(${name} PRIVATE GPT2_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    target_link_libraries(${name} PRIVATE gpt2_options ${TEST_LINKS} GTest::gmock GTest::gtest_main)
    # Tests are compiled once and run once: -O3 would take longer than it saves.
    target_compile_options(${name} PRIVATE -O1)
    if(GPT2_SANITIZE AND NOT GPT2_TESTS_HAVE_LOOPS)
      target_compile_options(${name} PRIVATE -O0)
    endif()
    set_target_properties(${name} PROPERTIES GPT2_IS_TEST ON GPT2_CHECKS_BY_CALLS ON)
    if(TEST_NEEDS_BINARY)
      target_compile_definitions(${name} PRIVATE GPT2_BINARY="$<TARGET_FILE:gpt2>")
      add_dependencies(${name} gpt2)
    endif()
  endif()
  if(TEST_LABEL STREQUAL "fast")
    add_dependencies(fast_tests ${name})
  endif()
  list(LENGTH TEST_ENVIRONMENT variables)
  if(variables GREATER 1)
    message(FATAL_ERROR "gpt2_test(${name}): gtest_discover_tests passes on one variable only")
  endif()
  # Threads that wait for their turn give the core away: tests run side by side, and spinning ones
  # took a hundred times longer.
  set(properties LABELS ${TEST_LABEL} TIMEOUT ${TEST_TIMEOUT}
                 ENVIRONMENT_MODIFICATION OMP_WAIT_POLICY=set:passive)
  if(TEST_ENVIRONMENT)
    list(APPEND properties ENVIRONMENT ${TEST_ENVIRONMENT})
  endif()
  if(GPT2_SANITIZE)
    add_test(NAME ${TEST_PREFIX}${name} COMMAND ${name} --gtest_brief=1)
    set_tests_properties(${TEST_PREFIX}${name} PROPERTIES ${properties} TIMEOUT 900)
    return()
  endif()
  gtest_discover_tests(${name}
    TEST_PREFIX "${TEST_PREFIX}"
    DISCOVERY_MODE PRE_TEST
    PROPERTIES ${properties})
endfunction()

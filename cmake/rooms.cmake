# gpt2_room(NAME SOURCES file... [LINKS target...])
# One static library a room, called room_NAME. Files are listed, not globbed.
function(gpt2_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LINKS" ${ARGN})
  if(NOT ROOM_SOURCES)  # a room whose door is all there is
    add_library(room_${name} INTERFACE)
    target_link_libraries(room_${name} INTERFACE gpt2_options fmt::fmt ${ROOM_LINKS})
    return()
  endif()
  add_library(room_${name} STATIC ${ROOM_SOURCES})
  target_link_libraries(room_${name} PUBLIC gpt2_options fmt::fmt ${ROOM_LINKS})
endfunction()

# gpt2_test(NAME LABEL fast|medium|slow|gpu SOURCES file... LINKS target...
#           [PREFIX text] [ENVIRONMENT VAR=value] [TIMEOUT seconds] [NEEDS_BINARY])
# One GoogleTest executable; each of its cases becomes one ctest test. A second call with the same
# name registers the same cases once more (another PREFIX and ENVIRONMENT). NEEDS_BINARY: the cases
# run the gpt2 program itself, whose path is the macro GPT2_BINARY.
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
    if(GPT2_SANITIZE)
      # The sanitizers watch the program; instrumenting the tests' own code as well would double the
      # time this build takes. Options of a source come after those of its target.
      set_source_files_properties(${TEST_SOURCES} PROPERTIES
        COMPILE_OPTIONS "-O0;-fno-sanitize=undefined")
    endif()
    if(TEST_NEEDS_BINARY)
      target_compile_definitions(${name} PRIVATE GPT2_BINARY="$<TARGET_FILE:gpt2>")
      add_dependencies(${name} gpt2)
    endif()
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
  gtest_discover_tests(${name}
    TEST_PREFIX "${TEST_PREFIX}"
    DISCOVERY_MODE PRE_TEST
    PROPERTIES ${properties})
endfunction()

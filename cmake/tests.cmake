# rq_test(tests/base/test_file.c [arguments...]) makes the test base_file. Tests link the static library, so internals are
# reachable, and run in the source folder. RQ_TEST_TMP is a folder they may write in.
find_package(PkgConfig REQUIRED)
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
set(RQ_TEST_TMP ${CMAKE_BINARY_DIR}/tests/tmp)
file(MAKE_DIRECTORY ${RQ_TEST_TMP})

function(rq_test file)
  string(REGEX REPLACE "^tests/(.*)\\.c$" "\\1" name ${file})
  string(REGEX REPLACE "(^|/)test_" "\\1" name ${name})
  string(REPLACE "/" "_" name ${name})
  add_executable(test_${name} ${file})
  target_include_directories(test_${name} PRIVATE src tests ${RQ_GEN})
  target_compile_definitions(test_${name} PRIVATE RQ_TEST_TMP="${RQ_TEST_TMP}")
  target_link_libraries(test_${name} PRIVATE requant_static rq_deps PkgConfig::CMOCKA)
  set_target_properties(test_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY tests)
  add_test(NAME ${name} COMMAND test_${name} ${ARGN} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endfunction()


# The commit goes into `requant --version`; the log of HEAD changes with every commit, so CMake looks again then.
set(RQ_COMMIT unknown)
find_package(Git QUIET)
if(Git_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} describe --always --dirty --abbrev=12 WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
    OUTPUT_VARIABLE RQ_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse --git-path logs/HEAD WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
    OUTPUT_VARIABLE RQ_GIT_LOG OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(EXISTS ${RQ_GIT_LOG})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${RQ_GIT_LOG})
  endif()
endif()
set_source_files_properties(src/algo/version.c PROPERTIES COMPILE_DEFINITIONS "RQ_VERSION=\"${PROJECT_VERSION}\";RQ_COMMIT=\"${RQ_COMMIT}\"")

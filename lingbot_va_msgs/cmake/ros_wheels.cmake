# Lets ament_cmake and rosidl build against the ROS 2 wheels that pip installed, where no ROS setup file was sourced.

find_package(Python3 REQUIRED COMPONENTS Interpreter)

# <prefix>/lib/python3.x/site-packages/rosidl_adapter/__init__.py
execute_process(
  COMMAND ${Python3_EXECUTABLE} -c "import pathlib, rosidl_adapter; print(pathlib.Path(rosidl_adapter.__file__).resolve().parents[4])"
  OUTPUT_VARIABLE ROS_WHEELS_PREFIX
  OUTPUT_STRIP_TRAILING_WHITESPACE
  COMMAND_ERROR_IS_FATAL ANY
)
message(STATUS "ROS 2 wheels: ${ROS_WHEELS_PREFIX}")
list(PREPEND CMAKE_PREFIX_PATH ${ROS_WHEELS_PREFIX})
set(ENV{AMENT_PREFIX_PATH} ${ROS_WHEELS_PREFIX})

# The targets that the wheels export name include folders of the machine that built the wheels, which CMake refuses.
function(ros_wheels_drop_missing_includes)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(includes ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(includes)
      list(FILTER includes EXCLUDE REGEX "^/opt/(python|_internal)/")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${includes}")
    endif()
  endforeach()
endfunction()

cmake_language(DEFER CALL ros_wheels_drop_missing_includes)
